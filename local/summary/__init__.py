"""Summarise several runs with confidence intervals and significance: `summarize_runs.py`."""
