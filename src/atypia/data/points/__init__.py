"""Positions of figures on slides, one module a file format."""
