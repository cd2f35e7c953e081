"""Export: a bundle in forms that run without torch."""
