"""Does an audio file hold sound? What its header cannot tell: silence, samples that are no numbers.

examined = examine("clip.wav")
examined.silent, examined.finite
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from desed_task.atomic_files import PathLike
from desed_task.audio.files import AudioInfo, open_audio

# A second at 16 kHz: nearly every file shows within it that it is not silent.
_BLOCK_FRAMES = 16000
_MAY_HOLD_NAN = ("FLOAT", "DOUBLE")


class AudioContent(NamedTuple):
    """What `inspect_audio` found.

    Attributes:
        info: the header.
        silent: digitally silent: no channel ever changes its value.
        finite: every sample is a number.
    """

    info: AudioInfo
    silent: bool
    finite: bool


def inspect_audio(path: PathLike) -> AudioContent:
    """A file's header, and whether there is sound behind it.

    Integer files are read up to the first sample that differs, which is rarely far; files of
    floats are read whole, as any sample may be no number.

    Raises:
        InputError: the file is missing, unreadable, cut short or empty.
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
