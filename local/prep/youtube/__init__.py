"""Fetch the real clips of DESED from YouTube."""
