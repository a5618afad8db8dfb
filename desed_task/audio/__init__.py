"""Audio files: read, write, resample, inspect and stream them."""
