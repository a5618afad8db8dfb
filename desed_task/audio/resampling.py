"""Resample audio files and folders with soxr HQ (docs/method.md, Audio and labels).

Results are 32-bit float, as the published 16 kHz files are, or 16-bit, which halves their
size. A folder has one sample format: see `resample_folder`. soxr and libsndfile release the GIL, so
a folder is resampled in threads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from desed_task.atomic_files import PathLike
from desed_task.audio.clip_files import find_clips
from desed_task.audio.files import (
    AudioInfo,
    count_formats,
    list_wavs,
    open_audio,
    probe,
    remove_stale_wavs,
    write_wav,
)
from desed_task.audio.freshness import (
    ClipSource,
    current_source,
    read_source_index,
    source_of,
    source_stamp,
    write_source_index,
)
from desed_task.audio.signal_check import LARGEST, SignalCheck, are_usable
from desed_task.errors import InputError
from desed_task.parallel import thread_map

Bits = Literal[16, 32]
SAMPLE_FORMATS: dict[Bits, str] = {16: "16-bit", 32: "32-bit float"}
_SUBTYPES: dict[Bits, str] = {16: "PCM_16", 32: "FLOAT"}
# Number of files from which reading their headers takes long enough for a progress bar.
_MANY = 2000


class Resampled(NamedTuple):
    """Result of `resample_file`.

    Attributes:
        written: False if the target was already complete and up to date.
        clipped: whether samples beyond full scale were clipped to 16 bits.
    """

    written: bool
    clipped: bool = False


class _Outcome(NamedTuple):
    """What became of a file.

    Attributes:
        result: the result.
        source: the source as it was read; None if it was written meanwhile.
        mute: whether it is silent or its channels cancel each other.
    """

    result: Resampled
    source: ClipSource | None
    mute: bool = False


@dataclass(frozen=True)
class ResampleReport:
    """Result of `resample_folder`.

    Attributes:
        done: files written.
        skipped: files already complete, made from their source as it is and in this sample format.
        failed: (source file, reason) of each file that could not be read or written.
        bits: sample format of the files written: 16 for 16-bit integers, 32 for 32-bit floats.
        before: sample format -> number of files in the target folder beforehand.
        converted: those of `done` that replaced a file of another sample format.
        orphans: files that stay in another sample format because their source is missing.
        clipped: written files that lost samples beyond full scale.
        mute: written files that are silent, or whose channels cancel each other.
        notes: one line each on subfolders and on what was left out, and why.
    """

    done: int
    skipped: int
    failed: tuple[tuple[Path, str], ...]
    bits: Bits
    before: Mapping[str, int] = field(default_factory=dict)
    converted: int = 0
    orphans: Mapping[Path, AudioInfo] = field(default_factory=dict)
    clipped: tuple[Path, ...] = ()
    mute: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def resample_folder(
    source: PathLike,
    target: PathLike,
    *,
    sample_rate: int = 16000,
    bits: Bits | None = None,
    jobs: int | None = None,
    progress: bool = True,
    suffixes: Collection[str] = (".wav",),
) -> ResampleReport:
    """Resample every WAV file below `source` to the same place below `target`, channels kept.

    A partly finished folder is completed: a file is skipped only if its target is complete, made
    from the source as it is now (see `source_index`; without one, not older), and has the right
    rate and sample format. Files missing in `source` stay in `target`. A file that cannot be read
    is reported, and the others are processed.

    Args:
        source: folder of audio at any rate.
        target: folder for WAV files of the same names; created if missing. Inside `source`, it is
            not taken for a part of it.
        sample_rate: of the target, in Hz.
        bits: 32 for floats, 16 for integers; files in another format are written again. None
            completes a folder of 16-bit files in 16 bits and any other in floats.
        jobs: files at a time; None for one per processor.
        progress: show a bar.
        suffixes: endings of the files to resample.

    Raises:
        InputError: `source` is missing, empty or `target`, or two of its files are one clip.
    """
    source, target = Path(source), Path(target)
    found_clips = find_clips(source, without=target, suffixes=suffixes)
    if target.resolve() == source.resolve():
        raise InputError(f"{target}: is the source itself; give another folder for the result")
    remove_stale_wavs(target)
    headers = folder_headers(target, jobs=jobs, progress=progress)
    bits = choose_bits(before := count_formats(headers.values()), bits)
    target_of = {wav: target / f"{clip_id}.wav" for clip_id, wav in found_clips.files.items()}
    known = {source / name: one for name, one in read_source_index(target).items()}
    work = partial(_resample_or_explain, target_of, headers, known, sample_rate, bits)
    name = f"{source.parent.name}/{source.name}"
    results = thread_map(work, list(target_of), jobs=jobs, desc=name, progress=progress)
    found = dict(zip(target_of, results, strict=True))
    outcomes = {wav: one for wav, one in found.items() if isinstance(one, _Outcome)}
    _keep_sources(source, target, known, outcomes)
    written = {target_of[wav]: one for wav, one in outcomes.items() if one.result.written}
    other, targets = of_other_format(headers, bits), {*target_of.values()}
    return ResampleReport(
        len(written),
        len(outcomes) - len(written),
        tuple((wav, one) for wav, one in found.items() if isinstance(one, str)),
        bits,
        before,
        sum(path in other for path in written),
        {path: info for path, info in other.items() if path not in targets},
        tuple(path for path, one in written.items() if one.result.clipped),
        tuple(path for path, one in written.items() if one.mute),
        found_clips.all_notes,
    )


def resample_file(
    source: PathLike, target: PathLike, *, sample_rate: int = 16000, bits: Bits = 32
) -> Resampled:
    """Resample one file unless its target is complete, in this sample format and not older.

    Which content a file was made from is only known in a folder: see `resample_folder`.

    Args:
        source: audio at any rate.
        target: the WAV file to write.
        sample_rate: of the target, in Hz.
        bits: 32 for floats, which keep samples beyond full scale; 16 for integers, rounded and
            clipped.

    Raises:
        InputError: the source cannot be read or the target cannot be written.
    """
    source, target = Path(source), Path(target)
    return _resample(source, target, _header(target), None, sample_rate, bits).result


def choose_bits(before: Mapping[str, int], bits: Bits | None) -> Bits:
    """Choose the sample format in which a folder is completed.

    Args:
        before: sample format -> number of files in it.
        bits: the requested bits; None keeps 16 bits if all files have them.
    """
    if bits is not None:
        return bits
    return 16 if set(before) == {SAMPLE_FORMATS[16]} else 32


def folder_headers(
    folder: Path, *, jobs: int | None = None, progress: bool = False
) -> dict[Path, AudioInfo]:
    """Headers of the WAV files below a folder, without those that cannot be read.

    Args:
        folder: may be missing or empty.
        jobs: files at a time; None for one per processor.
        progress: show a bar if there are many.
    """
    try:
        wavs = list_wavs(folder, recursive=True)
    except InputError:
        return {}
    desc = f"looking at {folder.parent.name}/{folder.name}"
    found = thread_map(_header, wavs, jobs=jobs, desc=desc, progress=progress and len(wavs) > _MANY)
    return {wav: info for wav, info in zip(wavs, found, strict=True) if info is not None}


def of_other_format(headers: Mapping[Path, AudioInfo], bits: Bits) -> dict[Path, AudioInfo]:
    """The files whose sample format is not that of `bits`."""
    return {path: info for path, info in headers.items() if info.subtype != _SUBTYPES[bits]}


def _resample_or_explain(
    target_of: Mapping[Path, Path],
    headers: Mapping[Path, AudioInfo],
    known: Mapping[Path, ClipSource],
    sample_rate: int,
    bits: Bits,
    source: Path,
) -> _Outcome | str:
    path = target_of[source]
    try:
        return _resample(source, path, headers.get(path), known.get(source), sample_rate, bits)
    except InputError as error:
        return str(error)


def _keep_sources(
    source: Path, target: Path, known: Mapping[Path, ClipSource], done: Mapping[Path, _Outcome]
) -> None:
    """Record what the files of `target` were made from, by path below `source`."""
    now = {wav: one.source for wav, one in done.items() if one.source is not None}
    records = {wav.relative_to(source).as_posix(): one for wav, one in {**known, **now}.items()}
    write_source_index(target, records)


def _header(path: Path) -> AudioInfo | None:
    try:
        return probe(path)
    except InputError:
        return None


def _resample(
    source: Path,
    target: Path,
    there: AudioInfo | None,
    known: ClipSource | None,
    sample_rate: int,
    bits: Bits,
) -> _Outcome:
    """Resample a file unless its target is up to date.

    Args:
        source: the file.
        target: the result.
        there: header of the target; None if it cannot be read.
        known: the source that the target was made from; None if unknown.
        sample_rate: of the target, in Hz.
        bits: of the target.
    """
    if there is not None and target.is_file() and _fits(source, there, sample_rate, bits):
        same = current_source(source, known, target.stat().st_mtime)
        if same is not None:
            return _Outcome(Resampled(False), same)
    stamp = source_stamp(source)
    with open_audio(source) as sound:
        samples = sound.read(dtype="float32")
        rate = sound.samplerate
    if rate != sample_rate:
        samples = soxr.resample(samples, rate, sample_rate, quality="HQ")
    if not len(samples):
        raise InputError(f"{source}: is shorter than one sample at {sample_rate} Hz; remove it")
    if not are_usable(samples):
        raise InputError(
            f"{source}: contains samples that are not finite or beyond {LARGEST:g}; replace the "
            "file"
        )
    check = SignalCheck(sample_rate)
    check.add(samples)
    mute = check.silent or check.cancels
    if bits == 32:
        write_wav(target, samples, sample_rate, _SUBTYPES[bits])
        return _Outcome(Resampled(True), source_of(source, stamp), mute)
    integers, clipped = _to_16_bits(samples)
    write_wav(target, integers, sample_rate, _SUBTYPES[bits])
    return _Outcome(Resampled(True, clipped), source_of(source, stamp), mute)


def _to_16_bits(samples: NDArray[np.float32]) -> tuple[NDArray[np.int16], bool]:
    """Rounded and clipped samples, and whether any was clipped."""
    # Full scale is 32768, as on reading, so that a 16-bit file at the target's rate stays as it is.
    rounded = np.rint(samples * np.float32(32768))
    clipped = np.clip(rounded, -32768, 32767)
    return clipped.astype(np.int16), bool((clipped != rounded).any())


def _fits(source: Path, there: AudioInfo, sample_rate: int, bits: Bits) -> bool:
    """Whether a target has the sample format, rate, channels and length of its source's result."""
    if there.subtype != _SUBTYPES[bits]:
        return False
    wanted = probe(source)
    # soxr may round the length up or down.
    return (
        there.sample_rate == sample_rate
        and there.channels == wanted.channels
        and abs(there.frames - wanted.duration_s * sample_rate) <= 1
    )
