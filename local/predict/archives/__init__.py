"""Archives too large for one process: list them once, split them by duration, merge the results."""
