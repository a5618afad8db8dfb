"""The augmentations and losses of a training step, as a configuration asks for them."""
