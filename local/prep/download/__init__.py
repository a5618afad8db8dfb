"""Download and unpack the archives of the recipe."""
