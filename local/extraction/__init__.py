"""Extraction of embeddings: `extract_embeddings.py`."""
