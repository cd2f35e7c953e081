"""Generated figures: an autoencoder and a diffusion transformer, their samples, and measures of the samples' quality."""
