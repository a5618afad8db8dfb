"""Metrics newer than the baseline, from counts over all thresholds or from detections."""
