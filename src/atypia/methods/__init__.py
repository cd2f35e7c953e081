"""Methods: what learns. Arrays and tensors in, parameters out; no data access."""
