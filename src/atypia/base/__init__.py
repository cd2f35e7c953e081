"""Names, errors, files and seeds used by all rooms."""
