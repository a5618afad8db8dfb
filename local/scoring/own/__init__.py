"""Metrics that the recipe defines itself (package name `desed_task`), beside the published ones."""
