"""Tuning with Optuna: the space, the study and the workers of optuna_pretrained.py."""
