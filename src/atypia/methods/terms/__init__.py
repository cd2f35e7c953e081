"""Terms of the objective: one concern a module."""
