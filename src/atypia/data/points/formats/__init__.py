"""Formats of files of points, one module each."""
