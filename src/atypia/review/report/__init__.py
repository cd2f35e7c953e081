"""The report after review: one table a figure, final counts, who decided what, a page to print."""
