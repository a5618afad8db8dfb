"""Checkpoints of the recipe: restore networks, resume training, print what is inside."""
