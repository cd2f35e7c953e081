"""The protocols, one module a family; each adds its entries to the catalogue when imported."""
