"""The corpora of the recipe: loading, checking, splitting, packing, and the data module."""
