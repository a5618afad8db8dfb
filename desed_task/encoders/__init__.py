"""Pretrained encoders whose embeddings the CRNN takes, and their front ends."""
