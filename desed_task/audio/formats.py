"""Endings of the audio and video files that can be read (docs/predict.md, Formats)."""

from __future__ import annotations

# For files found in folders; a file given by its path may have any ending. `files.open_audio` looks
# at the content, never at the ending.
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".rf64", ".w64", ".bwf", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf"),
    *(".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".m4a", ".m4b", ".aac", ".adts"),
    *(".wma", ".asf", ".amr", ".3gp", ".3g2", ".ac3", ".eac3", ".wv", ".tta", ".ape", ".tak"),
    *(".webm", ".weba", ".mka", ".mkv", ".mp4", ".m4v", ".mov", ".qt", ".avi", ".wmv", ".flv"),
    *(".m2ts", ".mpg", ".mpeg", ".ogv", ".ogx", ".dts"),
)
