"""HDF5 files with a row for each clip: embeddings, and pseudo-labels."""
