"""Training: from a recipe, a manifest and a split to run folders."""
