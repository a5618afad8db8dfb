"""Check an audio file for silence, channels that cancel each other, and non-finite samples.

content = inspect_audio("clip.wav")
content.silent, content.finite, content.cancels
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from desed_task.atomic_files import PathLike
from desed_task.audio.codecs.decoding import COMPRESSED
from desed_task.audio.files import AudioInfo, open_audio
from desed_task.audio.signal_check import SignalCheck

_MAY_HOLD_NAN = ("FLOAT", "DOUBLE", COMPRESSED)


class AudioContent(NamedTuple):
    """Result of `inspect_audio`.

    Attributes:
        info: the header.
        silent: no sample of any channel differs from the first.
        finite: whether every sample is finite.
        cancels: whether the channels cancel each other in their mean (see `SignalCheck`).
    """

    info: AudioInfo
    silent: bool
    finite: bool
    cancels: bool = False


def inspect_audio(path: PathLike) -> AudioContent:
    """Read a file's header, and check its samples.

    Integer files of one channel are read up to the first sample that differs, which usually comes
    early; others are read whole, as any float may be NaN, and channels may cancel.

    Raises:
        InputError: the file is missing, unreadable, truncated or empty.
    """
    with open_audio(path) as sound:
        info = AudioInfo.of(sound)
        to_the_end = sound.subtype in _MAY_HOLD_NAN or info.channels > 1
        check = SignalCheck(info.sample_rate)
        first, silent, finite = None, True, True
        while silent or to_the_end:
            block = sound.read(info.sample_rate, dtype="float32", always_2d=True)
            if not len(block):
                break
            first = block[0] if first is None else first
            silent = silent and bool((block == first).all())
            finite = finite and bool(np.isfinite(block).all())
            if finite and info.channels > 1:
                check.add(block)
        return AudioContent(info, silent, finite, finite and check.cancels)
