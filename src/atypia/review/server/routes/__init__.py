"""Addresses of the review server, by subject."""
