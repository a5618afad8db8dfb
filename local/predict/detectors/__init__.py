"""The detectors of a command: checkpoints trained here, published ones, and those of AudioSet."""
