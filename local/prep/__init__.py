"""Create, download and prepare the data."""
