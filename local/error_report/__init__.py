"""The error report of a tested run: what was missed, wrongly detected and confused, and where."""
