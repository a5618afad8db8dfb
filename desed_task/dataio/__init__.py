"""Tables, audio and embeddings on disk, and the datasets that read batches from them."""
