"""Data: published sources, manifests, images, crop stores, audit, phantom set."""
