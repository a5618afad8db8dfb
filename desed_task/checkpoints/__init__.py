"""Checkpoint files: load them safely and rebuild the detector that they describe."""
