"""Whether one classifier is better than another: paired tests, rank tests, many comparisons at once."""
