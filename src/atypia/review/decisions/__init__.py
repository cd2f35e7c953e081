"""The decision log and everything derived from it."""
