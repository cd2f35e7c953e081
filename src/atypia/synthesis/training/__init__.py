"""How a generator is trained: the parts, their loop, the stages, a generator for each fold."""
