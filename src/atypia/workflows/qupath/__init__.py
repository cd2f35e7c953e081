"""Scripts that run Atypia from QuPath: what ``atypia qupath`` prints."""
