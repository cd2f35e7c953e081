"""Studies: whole comparisons as one plan of runs, executed anywhere, tabulated from predictions."""
