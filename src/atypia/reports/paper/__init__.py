"""The papers' tables and figures in their own layout, from published numbers and from one's own studies."""
