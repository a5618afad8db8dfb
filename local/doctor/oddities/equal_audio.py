"""Find files with the same samples."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from desed_task.audio.codecs.decoding import DecodedSound
from desed_task.audio.files import open_audio
from desed_task.errors import InputError
from desed_task.parallel import thread_map

Name = TypeVar("Name", bound=Hashable)
# Samples that are compared at the beginning, in the middle and at the end of each file.
_N_PROBED = 4096
_BLOCK = 1 << 18


def equal_audio(
    files: Mapping[Name, Path], *, jobs: int = 8, progress: bool = False
) -> list[tuple[Name, ...]]:
    """Groups of files whose samples, rate and channels are the same.

    A few thousand samples of each file are read; files in which those are the same are read whole.
    Silent files are not compared, nor those that cannot be read.

    Args:
        files: name -> file; one file under several names is read once, and equal to itself.
        jobs: files at a time.
        progress: whether to show a bar.
    """
    paths = list(dict.fromkeys(path.resolve() for path in files.values()))
    bar = "comparing audio"
    looks = list(thread_map(_look, paths, jobs=jobs, desc=bar, progress=progress))
    alike: dict[str, list[Path]] = {}
    for path, look in zip(paths, looks, strict=True):
        if look:
            alike.setdefault(look, []).append(path)
    several = [path for group in alike.values() if len(group) > 1 for path in group]
    digests = dict(
        zip(several, thread_map(_digest, several, jobs=jobs, desc=bar, progress=False), strict=True)
    )
    same: dict[str, list[Name]] = {}
    for name, path in files.items():
        there = path.resolve()
        # A file that is like no other is only equal to itself.
        digest = digests.get(there, str(there))
        if digest:
            same.setdefault(digest, []).append(name)
    return [tuple(names) for names in same.values() if len(names) > 1]


def _look(path: Path) -> str:
    """Digest of some samples; "" for silence, or a file that cannot be read."""
    try:
        with open_audio(path) as sound:
            if isinstance(sound, DecodedSound):
                return f"{sound.samplerate} {sound.channels}"  # Only read from the beginning.
            places = {0, max(sound.frames // 2, 0), max(sound.frames - _N_PROBED, 0)}
            blocks = []
            for place in sorted(places):
                sound.seek(place)
                blocks.append(sound.read(min(_N_PROBED, sound.frames - place), dtype="float32"))
            header = (sound.frames, sound.samplerate, sound.channels)
    except InputError:
        return ""
    return _of_blocks(header, blocks) if any(map(np.any, blocks)) else str(header)


def _digest(path: Path) -> str:
    """Digest of all samples; "" for silence, or a file that cannot be read."""
    digest, is_silent = hashlib.blake2b(digest_size=16), True
    try:
        with open_audio(path) as sound:
            digest.update(f"{sound.samplerate} {sound.channels}".encode())
            while len(block := sound.read(_BLOCK, dtype="float32")):
                digest.update(np.ascontiguousarray(block).tobytes())
                is_silent = is_silent and not block.any()
    except InputError:
        return ""
    return "" if is_silent else digest.hexdigest()


def _of_blocks(header: Sequence[int], blocks: Sequence[np.ndarray]) -> str:
    digest = hashlib.blake2b(str(header).encode(), digest_size=16)
    for block in blocks:
        digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()
