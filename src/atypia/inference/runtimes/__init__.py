"""What runs a classifier's network."""
