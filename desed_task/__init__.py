"""Library for sound event detection; the recipe for DCASE 2024 Task 4 on top of it is `local`."""

__version__ = "0.1.0"
