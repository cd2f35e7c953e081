"""Phantom set: procedural H&E crops of mitotic figures whose every property is known."""
