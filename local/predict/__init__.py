"""Events of any recording, and graphs for other runtimes: `predict.py`."""
