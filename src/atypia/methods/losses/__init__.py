"""Losses: one file each; see :mod:`atypia.methods.loss`."""
