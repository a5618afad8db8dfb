"""Check an audio file for silence, channels that cancel each other, and non-finite samples.

content = inspect_audio("clip.wav")
content.silent, content.finite, content.cancels
"""

from __future__ import annotations

from typing import NamedTuple

from desed_task.atomic_files import PathLike
from desed_task.audio.codecs.decoding import COMPRESSED
from desed_task.audio.files import AudioInfo, open_audio
from desed_task.audio.signal_check import SignalCheck, are_usable

_MAY_HOLD_NAN = ("FLOAT", "DOUBLE", COMPRESSED)


class AudioContent(NamedTuple):
    """Result of `inspect_audio`.

    Attributes:
        info: the header.
        silent: whether it is digitally silent (see `SignalCheck`).
        finite: whether every sample is finite and none absurdly large.
        cancels: whether the channels cancel each other in their mean (see `SignalCheck`).
    """

    info: AudioInfo
    silent: bool
    finite: bool
    cancels: bool = False


def inspect_audio(path: PathLike) -> AudioContent:
    """Read a file's header, and check its samples.

    Integer files of one channel are read up to the first second with sound, which usually comes
    early; others are read whole, as any float may be NaN, and channels may cancel.

    Raises:
        InputError: the file is missing, unreadable, truncated or empty.
    """
    with open_audio(path) as sound:
        info = AudioInfo.of(sound)
        to_the_end = sound.subtype in _MAY_HOLD_NAN or info.channels > 1
        check = SignalCheck(info.sample_rate)
        silent = finite = True
        while silent or to_the_end:
            block = sound.read(info.sample_rate, dtype="float32", always_2d=True)
            if not len(block):
                break
            finite = finite and are_usable(block)
            if finite:
                check.add(block)
            silent = finite and check.silent
        return AudioContent(info, silent, finite, finite and check.cancels)
