"""Making and preparing the data."""
