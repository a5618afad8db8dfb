"""The task of a checkpoint: what of it a training depends on, and weights by class."""
