"""Tune with Optuna: search space, study and workers of optuna_pretrained.py."""
