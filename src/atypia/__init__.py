"""Atypia: atypical or normal mitotic figure, and how sure."""

__version__ = "0.1.0"
