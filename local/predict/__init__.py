"""Detect events in recordings and export networks for other runtimes: `predict.py`."""
