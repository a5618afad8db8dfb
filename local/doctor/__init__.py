"""Check that the data of a configuration is complete and undamaged."""
