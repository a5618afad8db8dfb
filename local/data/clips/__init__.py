"""The clips of a corpus: which files they are, and the windows of longer ones."""
