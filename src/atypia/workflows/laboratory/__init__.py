"""A model and a laboratory: calibrate, adapt, how far its cases lie from the training."""
