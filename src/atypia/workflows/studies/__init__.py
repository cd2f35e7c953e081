"""Studies, from file to report, and papers, their tables and plots."""
