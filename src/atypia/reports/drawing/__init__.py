"""Tables, plots and pages, independent of their content."""
