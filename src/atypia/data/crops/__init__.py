"""Figures' crops, cut once and kept in a store."""
