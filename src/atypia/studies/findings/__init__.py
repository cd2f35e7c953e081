"""Findings: statistics computed from the predictions of a study."""
