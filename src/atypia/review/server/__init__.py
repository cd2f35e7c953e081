"""The server: addresses, guards, bodies."""
