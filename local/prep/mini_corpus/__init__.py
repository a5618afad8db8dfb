"""The mini corpus: a small synthetic copy of all data."""
