"""Parts of the configuration's schema: the base of all sections, and those of decoding."""
