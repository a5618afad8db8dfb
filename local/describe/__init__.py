"""Look at a folder of recordings and label files, and write the configuration of a task."""
