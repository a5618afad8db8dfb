"""From scores to results: metrics, reports, results.json, score files and figures."""
