"""Command line: parses, calls a workflow, prints."""
