"""Decode compressed audio with ffmpeg or PyAV."""
