"""Images for the page: crops and slide tiles."""
