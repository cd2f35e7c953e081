"""The published sets, one entry a module."""
