"""Several checkpoints whose scores are averaged, in the place of one in tests and evaluations."""
