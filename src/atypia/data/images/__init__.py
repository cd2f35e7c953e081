"""Image files to arrays: decoding, fields, contact sheets."""
