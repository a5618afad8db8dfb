"""The search space as it is written in files."""
