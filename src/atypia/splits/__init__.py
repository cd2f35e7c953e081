"""Splits: protocols that produce folds as saved files, and the audit that raises on leakage."""
