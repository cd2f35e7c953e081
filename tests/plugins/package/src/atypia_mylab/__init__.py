"""What our laboratory adds to Atypia; one module a kind, named in pyproject.toml."""
