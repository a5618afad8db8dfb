"""Scoring: metrics, reports, results.json, score files and figures."""
