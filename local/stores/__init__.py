"""Folders of embeddings: one for each encoder, file of weights and number of blocks."""
