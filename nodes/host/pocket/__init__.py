"""The pocket models as the host's own MODEL, CLIP, VAE and CLIP_VISION."""
