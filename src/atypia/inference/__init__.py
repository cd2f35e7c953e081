"""Inference: saved classifiers (bundles) and what they predict."""
