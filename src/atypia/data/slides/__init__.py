"""Whole slides and large images, and the streams of crops from them."""
