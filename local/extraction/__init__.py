"""Extraction of BEATs embeddings: `extract_embeddings.py`."""
