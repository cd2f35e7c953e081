"""Samplers: one file each; see :mod:`atypia.methods.sampler`."""
