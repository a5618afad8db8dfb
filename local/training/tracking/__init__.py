"""Loggers of a run, and what they are given."""
