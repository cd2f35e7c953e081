"""Reports: tables, plots and pages from result files."""
