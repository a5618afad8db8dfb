"""Check an audio file for silence and non-finite samples.

content = inspect_audio("clip.wav")
content.silent, content.finite
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from desed_task.atomic_files import PathLike
from desed_task.audio.files import AudioInfo, open_audio

# One second at 16 kHz, in which nearly every file turns out not to be silent.
_BLOCK_FRAMES = 16000
_MAY_HOLD_NAN = ("FLOAT", "DOUBLE")


class AudioContent(NamedTuple):
    """Result of `inspect_audio`.

    Attributes:
        info: the header.
        silent: no sample of any channel differs from the first.
        finite: whether every sample is finite.
    """

    info: AudioInfo
    silent: bool
    finite: bool


def inspect_audio(path: PathLike) -> AudioContent:
    """Read a file's header, and check its samples.

    Integer files are read up to the first sample that differs, which usually comes early;
    files of floats are read whole, as any sample may be NaN.

    Raises:
        InputError: the file is missing, unreadable, truncated or empty.
    """
    with open_audio(path) as sound:
        info = AudioInfo.of(sound)
        to_the_end = sound.subtype in _MAY_HOLD_NAN
        first, silent, finite = None, True, True
        while silent or to_the_end:
            block = sound.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
            if not len(block):
                break
            first = block[0] if first is None else first
            silent = silent and bool((block == first).all())
            finite = finite and bool(np.isfinite(block).all())
        return AudioContent(info, silent, finite)
