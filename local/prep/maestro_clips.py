"""Cut MAESTRO real's long recordings and their soft labels into 10 s clips and a table.

See docs/method.md, "Audio and labels". Clips keep the recordings' sample rate; `resample_folder`
follows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from desed_task.atomic_files import write_text_atomic
from desed_task.audio.files import list_wavs, probe, read_lossless, remove_stale_wavs, write_wav
from desed_task.audio.freshness import (
    ClipSource,
    current_source,
    read_source_index,
    source_of,
    source_stamp,
    write_source_index,
)
from desed_task.errors import InputError, agree, count_of
from desed_task.parallel import thread_map
from local.cli.own_files import own_outputs
from local.prep.maestro_soft_labels import SoftLabels, label_files, read_soft_labels
from local.prep.resample import own_audio

TRAIN_HOP_S = 1.0
VALIDATION_HOP_S = 5.0
TABLE_COLUMNS = ("filename", "onset", "offset", "event_label", "confidence")


@dataclass(frozen=True)
class CutReport:
    """The result of `cut_recordings`.

    Attributes:
        done: number of clips written.
        skipped: number of clips that existed already.
        missing: recordings not on disk.
        failed: (file, reason) of each recording that could not be cut.
    """

    done: int = 0
    skipped: int = 0
    missing: tuple[str, ...] = ()
    failed: tuple[tuple[Path, str], ...] = ()


@dataclass
class _Cut:
    """One recording's result: clips written, clips that existed, table rows, the recording as it
    was read; or the error.
    """

    done: int = 0
    skipped: int = 0
    rows: list[tuple[str, str]] = field(default_factory=list)
    source: ClipSource | None = None
    fault: str = ""


def cut_recordings(
    audio_dir: Path,
    annotation_dir: Path,
    recordings: Sequence[str],
    out_folder: Path,
    out_table: Path,
    *,
    window_s: float = 10.0,
    hop_s: float,
    jobs: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> CutReport:
    """Cut recordings into clips and write the clips' table.

    Clips are named `{recording}-{onset:06d}-{offset:06d}.wav` in centiseconds. The table's rows are
    sorted by filename and, within a clip, in the annotation's order; a clip without any annotated
    event has no row. Complete clips of an unchanged recording are kept (see `source_index`; without
    one, those that are not older), so the next run completes an interrupted one.

    Args:
        audio_dir: contains `<recording>.wav`, possibly in subfolders.
        annotation_dir: contains `<recording>.txt` (see `read_soft_labels`), possibly in subfolders.
        recordings: names without suffix.
        out_folder: folder of the clips.
        out_table: TSV file; written last, from the recordings that could be cut; unchanged if
            there are none.
        window_s: clip length in seconds.
        hop_s: seconds from one clip's onset to the next; at most `window_s`.
        jobs: recordings at a time; None for one per processor.
        progress: whether to show a bar.
        overwrite: whether to replace clips and a table that this program did not write.

    Raises:
        InputError: a folder is missing or empty, none of the recordings is found, or the table
            would replace one of the user.
    """
    if not 0 < hop_s <= window_s:
        raise InputError(f"hop_s = {hop_s}: must be above 0 and at most the window ({window_s} s)")
    audio = by_stem(list_wavs(audio_dir, recursive=True))
    labels = by_stem(label_files(annotation_dir))
    found = [name for name in recordings if name in audio]
    if not found:
        raise _none_found(audio_dir, recordings)
    remove_stale_wavs(out_folder)
    known, desc = read_source_index(out_folder), out_folder.name
    cut = partial(_cut_or_explain, audio, labels, known, out_folder, window_s, hop_s)
    with own_audio(out_folder, overwrite=overwrite):
        cuts = thread_map(cut, found, jobs=jobs, desc=desc, progress=progress, unit="recording")
        by_name = dict(zip(found, cuts, strict=True))
    seen = {name: one.source for name, one in by_name.items() if one.source is not None}
    write_source_index(out_folder, known | seen)
    if rows := [row for one in by_name.values() for row in one.rows]:
        _write_table(out_table, rows, overwrite)
    return CutReport(
        done=sum(one.done for one in by_name.values()),
        skipped=sum(one.skipped for one in by_name.values()),
        missing=tuple(name for name in recordings if name not in audio),
        failed=tuple((audio[name][0], one.fault) for name, one in by_name.items() if one.fault),
    )


def _none_found(audio_dir: Path, recordings: Sequence[str]) -> InputError:
    return InputError(
        f"{audio_dir}: contains none of the {count_of(len(recordings), 'recording')} "
        f"({recordings[0]}.wav, ...); unpack MAESTRO's development_audio.zip there"
    )


def windows(n_samples: int, window: int, hop: int) -> list[tuple[int, int]]:
    """Return onset and end of each clip of a recording, in samples.

    Full windows every `hop`; if samples are left behind the last of them, one shorter window
    follows, a hop later.
    """
    n_full = max(0, (n_samples - window) // hop + 1)
    bounds = [(k * hop, k * hop + window) for k in range(n_full)]
    if n_samples > (bounds[-1][1] if bounds else 0):
        bounds.append((n_full * hop, n_samples))
    return bounds


def clip_name(recording: str, onset: int, end: int, sample_rate: int) -> str:
    """Name a clip by its bounds in samples; times are truncated to whole centiseconds."""
    # In integers: 4.35 s are 435 centiseconds, where int(100 * 4.35) is 434.
    onset_cs, end_cs = onset * 100 // sample_rate, end * 100 // sample_rate
    return f"{recording}-{onset_cs:06d}-{end_cs:06d}.wav"


def by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Map names without suffix to files; a name may occur in several folders."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return found


def _cut_or_explain(
    audio: dict[str, list[Path]],
    labels: dict[str, list[Path]],
    known: Mapping[str, ClipSource],
    out_folder: Path,
    window_s: float,
    hop_s: float,
    recording: str,
) -> _Cut:
    try:
        path = _only(audio[recording], recording)
        if recording not in labels:
            raise InputError(f"{path}: has no annotation; put {recording}.txt beside the others")
        annotation = _only(labels[recording], recording)
        soft = read_soft_labels(annotation)
        _warn_of_late_labels(annotation, soft, path)
        return _cut(recording, path, soft, known.get(recording), out_folder, window_s, hop_s)
    except InputError as error:
        return _Cut(fault=str(error))


def _warn_of_late_labels(annotation: Path, soft: SoftLabels, path: Path) -> None:
    """Warn of labels that no clip contains because they begin after the recording's end."""
    duration_s = probe(path).duration_s
    late = np.flatnonzero(soft.onset_s >= duration_s)
    if len(late):
        row = late[0]
        warnings.warn(
            f"{annotation}: {len(late)} of {count_of(len(soft.label), 'label')} "
            f"{agree(len(late), 'begins', 'begin')} after the recording's end and "
            f"{agree(len(late), 'is', 'are')} left out, e.g. {soft.label[row]!r} at "
            f"{soft.onset_s[row]:g} s; {path} lasts {duration_s:g} s",
            UserWarning,
            stacklevel=2,
        )


def _only(paths: list[Path], recording: str) -> Path:
    if len(paths) > 1:
        places = ", ".join(str(path) for path in paths)
        raise InputError(f"{recording}: found {count_of(len(paths), 'time')} ({places}); keep one")
    return paths[0]


def _cut(
    recording: str,
    path: Path,
    soft: SoftLabels,
    known: ClipSource | None,
    out_folder: Path,
    window_s: float,
    hop_s: float,
) -> _Cut:
    info = probe(path)
    rate = info.sample_rate
    bounds = windows(info.frames, round(window_s * rate), round(hop_s * rate))
    cut = _Cut()
    absent: list[tuple[Path, int, int]] = []
    stamp, oldest = source_stamp(path), path.stat().st_mtime
    if known is not None:
        cut.source = current_source(path, known, 0.0)
        oldest = -math.inf if cut.source is not None else math.inf
    for onset, end in bounds:
        name = clip_name(recording, onset, end, rate)
        cut.rows += [(name, row) for row in _rows(soft, onset / rate, end / rate)]
        if not _is_there(out_folder / name, end - onset, rate, oldest):
            absent.append((out_folder / name, onset, end))
    if absent:
        samples, rate, subtype = read_lossless(path)
        for target, onset, end in absent:
            write_wav(target, samples[onset:end], rate, subtype)
    cut.source = cut.source or source_of(path, stamp)
    cut.done, cut.skipped = len(absent), len(bounds) - len(absent)
    return cut


def _rows(soft: SoftLabels, onset_s: float, end_s: float) -> list[str]:
    """Return the table's columns after the filename, for the events that overlap a clip."""
    hits = np.flatnonzero((soft.onset_s < end_s) & (soft.offset_s > onset_s))
    # Rounded, or 31.2 - 25 would be 6.199999999999999.
    onset = (np.maximum(soft.onset_s[hits], onset_s) - onset_s).round(6).tolist()
    offset = (np.minimum(soft.offset_s[hits], end_s) - onset_s).round(6).tolist()
    value = soft.value[hits].tolist()
    return [
        f"{on}\t{off}\t{soft.label[i]}\t{v}"
        for i, on, off, v in zip(hits, onset, offset, value, strict=True)
    ]


def _is_there(path: Path, frames: int, sample_rate: int, oldest: float) -> bool:
    if not path.is_file() or path.stat().st_mtime < oldest:
        return False
    try:
        info = probe(path)
    except InputError:
        return False
    return (info.frames, info.sample_rate) == (frames, sample_rate)


def _write_table(path: Path, rows: Iterable[tuple[str, str]], overwrite: bool) -> None:
    lines = ["\t".join(TABLE_COLUMNS)]
    # Sorted by name alone: within a clip the annotation's order matters, as later rows overwrite.
    lines += ["\t".join(row) for row in sorted(rows, key=lambda row: row[0])]
    text = "\n".join(lines) + "\n"
    with own_outputs(path.parent, [], overwrite=overwrite):
        write_text_atomic(path, text)
