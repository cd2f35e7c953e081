"""Evaluation: result rows and their summaries."""
