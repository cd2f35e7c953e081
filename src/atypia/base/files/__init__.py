"""Exchanged files: opening, parsing, writing and hashing files from or for others, with defined rules."""
