"""What is wrong with a set, or between two; what it holds."""
