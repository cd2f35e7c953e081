"""Probes: linear heads on frozen features, one module each."""
