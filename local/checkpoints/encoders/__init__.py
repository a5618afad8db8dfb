"""The encoders of a checkpoint, of a configuration and of stored embeddings."""
