"""What makes the documentation: references from the code, pictures from the phantom set, notebooks, the site."""
