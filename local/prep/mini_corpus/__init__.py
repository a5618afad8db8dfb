"""The mini corpus: a synthetic copy of the whole material in small."""
