"""The figures under review: their scores and their order."""
