"""Studies: comparisons planned as a set of runs, executed anywhere, and tabulated from predictions."""
