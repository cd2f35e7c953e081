"""Forms of export, one module each."""
