"""What runs beside training: callbacks, energy, result files, feature statistics, MACs."""
