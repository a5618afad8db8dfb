"""From tables, wav files and embeddings on disk to batches."""
