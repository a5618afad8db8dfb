"""Encoders that run inside the training step: their weights, optimizer and cost."""
