"""Impulse responses of recording devices, read from a folder."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from desed_task.atomic_files import PathLike, sha256_of
from desed_task.audio.files import list_wavs, read_lossless, to_mono
from desed_task.errors import InputError, count_of

KEY = "augment.device_dir"


class DeviceResponses(NamedTuple):
    """Impulse responses.

    Attributes:
        samples: (response, sample) float32, each with zeros after its end.
        delay: (response,) int64, sample of the largest magnitude. Convolution moves sounds by it,
            which is undone, so that labels stay right.
    """

    samples: Tensor
    delay: Tensor


def read_responses(folder: PathLike, sample_rate: int, longest: int) -> DeviceResponses:
    """Read all WAV files of a folder and its subfolders, and print a line about them.

    Files at other rates are resampled; their sums then stay the same, so that the gain does.

    Args:
        folder: mono WAV files.
        sample_rate: of the result, Hz.
        longest: samples that a response may have: those of a clip.

    Raises:
        InputError: the folder is missing or empty; or files that cannot be read, have several
            channels, are silent or longer than a clip, all of them named.
    """
    problems: list[str] = []
    found: list[NDArray[np.float32]] = []
    resampled: Counter[int] = Counter()
    for path in _files(folder):
        try:
            response, rate = _read(path)
            if rate != sample_rate:
                resampled[rate] += 1
                response = _resampled(response, rate, sample_rate)
            _check(path, response, sample_rate, longest)
        except InputError as error:
            problems.append(str(error))
        else:
            found.append(response)
    if problems:
        raise InputError.collect(problems, f"{KEY}: responses that cannot be used:")
    at_rates = (
        f"; {number} resampled from {rate} to {sample_rate} Hz"
        for rate, number in sorted(resampled.items())
    )
    responses = count_of(len(found), "device response")
    print(f"{folder}: {responses}{''.join(at_rates)}")
    samples = torch.zeros(len(found), max(map(len, found)))
    for row, response in zip(samples, found, strict=True):
        row[: len(response)] = torch.from_numpy(response)
    return DeviceResponses(samples, samples.abs().argmax(dim=1))


def responses_stamp(folder: PathLike) -> tuple[tuple[str, int, int], ...]:
    """Path, time and size of each file, which tell whether it may have changed.

    Raises:
        InputError: as `read_responses` of the folder.
    """
    stats = ((path, path.stat()) for path in _files(folder))
    return tuple((str(path), there.st_mtime_ns, there.st_size) for path, there in stats)


def responses_sha256(folder: PathLike) -> tuple[str, int]:
    """SHA-256 of the content of the responses, in the order in which they are drawn, and their
    number.

    Raises:
        InputError: as `read_responses`, for the folder.
    """
    digests = [sha256_of(path) for path in _files(folder)]
    return hashlib.sha256("".join(digests).encode()).hexdigest(), len(digests)


def _files(folder: PathLike) -> list[Path]:
    try:
        return list_wavs(folder, recursive=True)
    except InputError as error:
        raise InputError(f"{KEY}: {error}") from None


def _read(path: Path) -> tuple[NDArray[np.float32], int]:
    samples, rate, _ = read_lossless(path)
    if samples.ndim == 2:
        raise InputError(
            f"{path}: has {count_of(samples.shape[1], 'channel')}; store responses as mono files"
        )
    if samples.dtype.kind == "i":
        samples = samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)
    return to_mono(path, samples.astype(np.float32)), rate


def _resampled(response: NDArray[np.float32], rate: int, sample_rate: int) -> NDArray[np.float32]:
    import soxr  # Only for responses at other rates.

    found: NDArray[np.float32] = soxr.resample(response, rate, sample_rate)
    return found * np.float32(rate / sample_rate)


def _check(path: Path, response: NDArray[np.float32], sample_rate: int, longest: int) -> None:
    if not np.any(response):
        raise InputError(f"{path}: is silent, and so would be the clips; remove it")
    if len(response) > longest:
        raise InputError(
            f"{path}: lasts {len(response) / sample_rate:g} s and a clip "
            f"{longest / sample_rate:g} s; is it an impulse response? shorten or remove it"
        )
