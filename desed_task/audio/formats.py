"""Endings and container formats of the audio and video files that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from desed_task.atomic_files import PathLike
from desed_task.errors import InputError
from desed_task.file_names import looked_up_from

# For files found in folders; a file given by its path may have any ending, as only its content
# decides how it is read.
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".rf64", ".w64", ".bwf", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf"),
    *(".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".m4a", ".m4b", ".aac", ".adts"),
    *(".wma", ".asf", ".amr", ".3gp", ".3g2", ".ac3", ".eac3", ".wv", ".tta", ".ape", ".tak"),
    *(".webm", ".weba", ".mka", ".mkv", ".mp4", ".m4v", ".mov", ".qt", ".avi", ".wmv", ".flv"),
    *(".m2ts", ".mpg", ".mpeg", ".ogv", ".ogx", ".dts"),
)
# Containers, by ffmpeg's names. Others, such as playlists, can name further files or addresses,
# which a recording from elsewhere must not open.
_DEMUXERS = (
    *("aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "ape", "asf", "au", "avi", "caf", "dts"),
    *("eac3", "flac", "flv", "matroska", "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "nut"),
    *("ogg", "oma", "rm", "tak", "tta", "voc", "w64", "wav", "webm", "wv", "xwma"),
)
# Given to ffmpeg, the program and the library: open nothing but files of these formats.
SAFE_OPTIONS = {"protocol_whitelist": "file,pipe", "format_whitelist": ",".join(_DEMUXERS)}
# Containers whose length is taken from their last page, even if that belongs to another stream.
UNRELIABLE = ("ogg",)
# Containers whose length counts from 0, even if their sound begins later.
FROM_ZERO = ("matroska,webm",)
# What FFmpeg's libraries log of other containers.
_NOT_ALLOWED = "Format not on whitelist"
# What ffmpeg logs of pictures without sound.
_NO_AUDIO = "does not contain any stream"


def refuse_undecodable(path: PathLike, reasons: Sequence[str]) -> NoReturn:
    """Raise the InputError for a file that cannot be decoded or is missing.

    Args:
        path: the file.
        reasons: messages of the decoder; the last one is shown.
    """
    reason = reasons[-1] if reasons else "it contains no audio"
    if any(_NOT_ALLOWED in text for text in reasons):
        reason = "it has no format of audio or video"
    elif any(_NO_AUDIO in text for text in reasons):  # from version 7 on not the last line
        reason = "it contains no audio"
    what = f"is not readable as audio ({reason})"
    if not Path(path).is_file():
        what = f"no such file{looked_up_from(path)}"
    raise InputError(f"{path}: {what}; replace or remove the file") from None
