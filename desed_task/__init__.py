"""Sound event detection: tensors, seconds and labels. The 2024 recipe on top of it is `local`."""

__version__ = "0.1.0"
