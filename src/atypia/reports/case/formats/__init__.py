"""Formats of results, one module each: a writer, and the line that registers it."""
