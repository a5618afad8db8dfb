"""The task: classes, corpora, batches, and what is scored, read from a description."""
