"""The published sets, one entry per module."""
