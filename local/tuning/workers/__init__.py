"""Worker processes of the tuner: one per device slot, each running trials."""
