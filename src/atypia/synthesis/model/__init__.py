"""What a generator is made of: conditions, networks, the noise process, latents."""
