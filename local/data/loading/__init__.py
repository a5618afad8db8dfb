"""Packed sets of corpora, where their memory lies, and the loaders of batches."""
