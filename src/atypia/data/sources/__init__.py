"""Published sources, one module each; importing a module adds its entry to the catalogue."""
