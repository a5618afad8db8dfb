"""The encoders that are vision transformers over spectrograms: ATST-Frame, fPaSST, ASiT, M2D."""
