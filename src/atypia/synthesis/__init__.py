"""Generated figures: an autoencoder and a diffusion transformer, their samples and what these are worth."""
