"""Reports: tables and figures from result files."""
