"""Resample the recipe's folders: each `*_44k` folder gets a 16 kHz sibling."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from desed_task.audio.files import AudioInfo, count_formats, formats_text, open_audio
from desed_task.audio.freshness import is_source_index
from desed_task.audio.resampling import (
    SAMPLE_FORMATS,
    Bits,
    ResampleReport,
    choose_bits,
    folder_headers,
    of_other_format,
    resample_folder,
)
from desed_task.errors import InputError, agree, count_of
from local.cli.own_files import own_outputs
from local.prep.layout import FOLDERS, DataLayout, Material

FileFailures = tuple[tuple[Path, str], ...]
_EXAMPLES = 3
# Rounding to 16 bits, and what versions of the resampler may differ by.
_SAME_SAMPLES = 2 / 32768


class PreparationStep(NamedTuple):
    """The result for one folder or table.

    Attributes:
        title: title of the folder or table.
        done: number of files written.
        there: number of files that existed before.
        failed: (file, reason) of each failure.
        notes: other remarks, one line each, with the remedy.
        stays_16_bit: the folder had 16-bit files and was completed in 16 bits, unasked.
        converted: files of `done` that existed in another sample format.
    """

    title: str
    done: int
    there: int
    failed: FileFailures = ()
    notes: tuple[str, ...] = ()
    stays_16_bit: bool = False
    converted: int = 0


def resample_parts(
    layout: DataLayout,
    parts: Iterable[str],
    *,
    bits: Bits | None = None,
    jobs: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Iterator[PreparationStep]:
    """Resample all folders of the parts that are on disk and skip the others.

    Args:
        layout: paths of the data.
        parts: of `layout.DATA_PARTS`.
        bits: see `desed_task.audio.resampling.resample_folder`.
        jobs: files at a time; None for one per processor.
        progress: whether to show a bar per folder.
        overwrite: whether to replace files that this program did not write.

    Returns:
        One step per folder. An empty folder is a failure; one whose originals are missing has a
        step only if `bits` requires them.
    """
    wanted = set(parts)
    for folder in FOLDERS:
        if folder.part not in wanted:
            continue
        source = original_folder(layout, folder.key)
        if not source.is_dir():
            yield from _without_source(layout, folder, bits)
            continue
        yield resample_step(
            folder.title,
            source,
            layout.made(folder.key),
            sample_rate=layout.data.fs,
            bits=bits,
            jobs=jobs,
            progress=progress,
            overwrite=overwrite,
        )


def resample_step(
    title: str,
    source: Path,
    target: Path,
    *,
    sample_rate: int,
    bits: Bits | None = None,
    jobs: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
    suffixes: Collection[str] = (".wav",),
) -> PreparationStep:
    """Resample a folder; what makes that impossible is its failure.

    Args:
        title: of the step.
        source: folder of originals.
        target: folder of their copies at `sample_rate` (Hz).
        suffixes: endings of the originals.
        Others: as of `resample_parts`.
    """
    try:
        with own_audio(target, overwrite=overwrite):
            report = resample_folder(
                source,
                target,
                sample_rate=sample_rate,
                bits=bits,
                jobs=jobs,
                progress=progress,
                suffixes=suffixes,
            )
    except InputError as error:
        return PreparationStep(title, 0, 0, ((source, str(error)),))
    return PreparationStep(
        title,
        report.done,
        report.skipped,
        report.failed,
        tuple(_notes(report, source, target)),
        bits is None and report.bits == 16,
        report.converted,
    )


def own_audio(folder: Path, *, overwrite: bool) -> AbstractContextManager[object]:
    """Guard a folder of audio: files of the user are not replaced, each is a failure.

    The record lies beside it, as the folder contains nothing but audio. What earlier versions
    wrote is recognised by its sound, if that has not changed since.
    """
    return own_outputs(
        folder.parent,
        [],
        overwrite=overwrite,
        recognise=is_source_index,
        equivalent=same_sound,
    )


def same_sound(there: Path, new: Path) -> bool:
    """Whether two audio files differ in nothing but their sample format."""
    try:
        with open_audio(there) as one, open_audio(new) as other:
            shapes = [(f.samplerate, f.channels) for f in (one, other)]
            if shapes[0] != shapes[1] or abs(one.frames - other.frames) > 1:
                return False
            samples = [f.read(dtype="float32", always_2d=True) for f in (one, other)]
    except InputError:
        return False
    n_frames = min(map(len, samples))
    # In 16 bits, samples beyond full scale are clipped.
    a, b = (np.clip(array[:n_frames], -1, 1) for array in samples)
    return bool(np.abs(a - b).max(initial=0) <= _SAME_SAMPLES)


def original_folder(layout: DataLayout, key: str) -> Path:
    """Return the folder at its original rate that `data.<key>` is resampled from.

    MAESTRO's clips are made, not downloaded, so those below `out_dir` are the newer ones.
    """
    made = layout.made(f"{key}_44k")
    return made if "maestro" in key and made.is_dir() else layout.found(f"{key}_44k")


def settled_formats(layout: DataLayout, bits: Bits | None) -> dict[str, Bits] | None:
    """Map each 16 kHz folder's title to its bits; None if some files have to be written again."""
    found: dict[str, Bits] = {}
    for folder in FOLDERS:
        headers = folder_headers(layout.made(folder.key))
        wanted = choose_bits(count_formats(headers.values()), bits)
        if of_other_format(headers, wanted):
            return None
        found[folder.title] = wanted
    return found


def note_on_16_bits(titles: Sequence[str]) -> str:
    """Format the note on folders of 16-bit files, made by an earlier version."""
    return (
        f"16-bit files are used as they are and completed in 16 bits: {', '.join(titles)}; "
        "--bits 32 writes them again as 32-bit float, as the published files are"
    )


def _without_source(
    layout: DataLayout, folder: Material, bits: Bits | None
) -> Iterator[PreparationStep]:
    """Report a folder that `bits` would rewrite although its originals are missing."""
    if bits is None:
        return
    source, target = original_folder(layout, folder.key), layout.found(folder.key)
    headers = folder_headers(target)
    orphans = of_other_format(headers, bits)
    if orphans:
        note = _note_on_orphans(orphans, len(headers), source)
        yield PreparationStep(folder.title, 0, len(headers), notes=(note,))


def _notes(report: ResampleReport, source: Path, target: Path) -> Iterator[str]:
    """Format notes that a folder's counts do not show."""
    yield from report.notes
    if report.converted:
        again = f"written again as {SAMPLE_FORMATS[report.bits]}: {report.converted}"
        yield f"{target}: had {formats_text(report.before)}; {again}"
    if report.orphans:
        yield _note_on_orphans(report.orphans, sum(report.before.values()), source)
    if report.clipped:
        yield (
            f"{target}: {len(report.clipped)} of {count_of(report.done, 'file')} written "
            f"{agree(len(report.clipped), 'has', 'have')} samples beyond full scale, clipped in "
            f"16 bits ({_some(report.clipped)}); --bits 32 keeps them"
        )
    if report.mute:
        yield (
            f"{target}: {len(report.mute)} of {count_of(report.done, 'file')} written "
            f"{agree(len(report.mute), 'is', 'are')} digitally silent, or their channels cancel "
            f"each other ({_some(report.mute)}); --check names them all"
        )


def _note_on_orphans(orphans: Mapping[Path, AudioInfo], n_files: int, source: Path) -> str:
    """Format the note on files that cannot be written again."""
    paths, formats = sorted(orphans), " or ".join(count_formats(orphans.values()))
    return (
        f"{paths[0].parent}: {len(paths)} of {count_of(n_files, 'file')} "
        f"{agree(len(paths), 'stays', 'stay')} {formats}, as their originals are not in {source} "
        f"({_some(paths)}); put them there and run again, or remove these files"
    )


def _some(paths: Sequence[Path]) -> str:
    """The first few names."""
    more = ", ..." if len(paths) > _EXAMPLES else ""
    return ", ".join(path.name for path in paths[:_EXAMPLES]) + more
