"""Whole comparisons and papers: studies from file to report, the papers' tables and figures."""
