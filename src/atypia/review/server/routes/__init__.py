"""Routes of the review server, by subject."""
