"""Several runs together, with intervals and significance: `summarize_runs.py`."""
