"""Fetch the real DESED clips from YouTube."""
