"""Pictures for the page: crops and slides' tiles."""
