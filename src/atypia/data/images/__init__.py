"""Converts image files to arrays: decoding, fields, contact sheets."""
