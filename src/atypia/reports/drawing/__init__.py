"""Tables, plots and pages as such."""
