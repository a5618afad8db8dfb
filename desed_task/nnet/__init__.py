"""The CRNN and its parts."""
