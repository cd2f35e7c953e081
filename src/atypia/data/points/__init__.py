"""Positions of figures on slides, one module per file format."""
