"""Names, errors, files and seeds that every room uses."""
