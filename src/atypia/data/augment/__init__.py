"""Augmentation: batched, on CPU or GPU, decided by one generator."""
