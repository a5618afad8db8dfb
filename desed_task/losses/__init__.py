"""Losses of a training step: weights by corpus, interpolation consistency, pseudo-labels."""
