"""Tissue on a slide: its overview, where tissue is, and areas that a user draws."""
