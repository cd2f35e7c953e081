"""Terms of the objective, one module each."""
