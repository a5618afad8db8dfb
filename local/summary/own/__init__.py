"""The recipe's own metrics in a summary: their counts, energy, and runs that lack some."""
