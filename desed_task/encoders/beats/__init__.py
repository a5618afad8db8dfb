"""BEATs, the pretrained audio transformer of the 2024 baseline."""
