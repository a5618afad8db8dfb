"""Scores in, numbers out: one module a criterion, pure functions."""
