"""Metrics as pure functions of scores, one module per criterion."""
