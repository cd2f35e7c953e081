"""Backbones: catalogue, building, weights, frozen features and their cache."""
