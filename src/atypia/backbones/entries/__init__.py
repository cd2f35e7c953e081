"""Catalogue entries: each module adds its own when it is imported."""
