"""Many slides: a list of them, the work on each, and the outcomes."""
