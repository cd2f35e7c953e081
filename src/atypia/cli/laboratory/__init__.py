"""A model and a laboratory: ``atypia calibrate`` and ``atypia drift``."""
