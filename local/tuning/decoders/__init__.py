"""Tune decoders of a checkpoint: class by class, and never on the clips that are scored."""
