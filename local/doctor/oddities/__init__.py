"""What is odd about a corpus, though training would take it."""
