"""What commands share: options, bars and messages, the table of results."""
