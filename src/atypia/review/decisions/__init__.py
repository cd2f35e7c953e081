"""The decision log and what follows from it."""
