"""Detectors that were trained on AudioSet's strong labels: their classes, files and networks."""
