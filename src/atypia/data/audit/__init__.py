"""Audit: problems within and between data sets, and counts of their content."""
