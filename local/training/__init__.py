"""Training support: callbacks, energy, result files, feature statistics, MACs."""
