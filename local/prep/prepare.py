"""Prepare the data on disk: cut MAESTRO, resample all folders, write the durations tables.

Each step skips complete files, so the next run completes an interrupted one. Missing data is
listed; `local.prep.download.archives` fetches it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from desed_task.audio.files import list_wavs
from desed_task.audio.resampling import Bits
from desed_task.errors import InputError, command_name, count_of
from desed_task.file_names import looked_up_from
from local.config_schema import Data
from local.prep import maestro_clips
from local.prep.durations import complete_durations
from local.prep.layout import DATA_PARTS, FOLDERS, TABLES, DataLayout
from local.prep.maestro_recordings import (
    MAESTRO_TRAIN_RECORDINGS,
    MAESTRO_VALIDATION_RECORDINGS,
)
from local.prep.resample import (
    FileFailures,
    PreparationStep,
    note_on_16_bits,
    original_folder,
    resample_parts,
)

_MOST_SHOWN = 50
_EXTRACT_AGAIN = (
    "the audio of these clips is now newer than their embeddings: run "
    f"{command_name('extract_embeddings.py')}, which "
    "computes those of changed clips again; the next training packs its sets again"
)


class _Split(NamedTuple):
    name: str
    key: str
    recordings: tuple[str, ...]
    hop_s: float


_SPLITS = (
    _Split("training", "real_maestro_train", MAESTRO_TRAIN_RECORDINGS, maestro_clips.TRAIN_HOP_S),
    _Split(
        "validation",
        "real_maestro_val",
        MAESTRO_VALIDATION_RECORDINGS,
        maestro_clips.VALIDATION_HOP_S,
    ),
)


@dataclass(frozen=True)
class PreparationResult:
    """The result of `prepare`.

    Attributes:
        steps: one per folder, in the order done.
        absent: (title, expected path) of everything that is not on disk.
        remedy: what can be done about it.
        sources: where it comes from, one line each.
    """

    steps: tuple[PreparationStep, ...]
    absent: tuple[tuple[str, str], ...]
    remedy: str = "Run again to fetch what can be fetched, or put it there"
    sources: tuple[str, ...] = ()

    @property
    def failed(self) -> FileFailures:
        """(file, reason) of every file that could not be prepared."""
        return tuple(failure for step in self.steps for failure in step.failed)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes that the table does not show, one line each."""
        lines = [note for step in self.steps for note in step.notes]
        kept = [step.title for step in self.steps if step.stays_16_bit]
        if kept:
            lines.insert(0, note_on_16_bits(kept))
        if any(step.converted for step in self.steps):
            lines.append(_EXTRACT_AGAIN)
        return tuple(lines)

    def summary(self) -> str:
        """Format the steps, missing data and notes."""
        lines = [f"{'prepared':<34}{'written':>9}{'there before':>14}{'failed':>8}"]
        for step in self.steps:
            counts = f"{step.done:>9}{step.there:>14}{len(step.failed):>8}"
            lines.append(f"{step.title:<34}{counts}")
        if self.absent:
            lines += ["", f"{'not on disk':<34}belongs to"]
            lines += [f"{what:<34}{where}" for what, where in self.absent]
            where = looked_up_from(self.absent[0][1])
            lines.append(f"{self.remedy}{where}.")
            lines += self.sources
        if self.notes:
            lines += ["", *(f"note: {note}" for note in self.notes)]
        return "\n".join(lines)

    def failures(self) -> str:
        """One line per failure, limited to the first few."""
        lines = [f"failed: {reason}" for _, reason in self.failed[:_MOST_SHOWN]]
        if len(self.failed) > _MOST_SHOWN:
            lines.append(f"... and {len(self.failed) - _MOST_SHOWN} more")
        return "\n".join(lines)


def prepare(
    data: Data,
    basedir: Path,
    out_dir: Path | None = None,
    *,
    parts: Iterable[str] = tuple(DATA_PARTS),
    bits: Bits | None = None,
    jobs: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> PreparationResult:
    """Prepare the parts of the data that are below `basedir`.

    Args:
        data: the configuration's `data` section, with published paths.
        basedir: contains `dcase/dataset/...` and `maestro_real/development_{audio,annotation}`.
        out_dir: folder of 16 kHz audio, MAESTRO's clips and tables, durations; None for `basedir`.
        parts: names from `layout.DATA_PARTS`.
        bits: sample format of the 16 kHz files, see `desed_task.audio.resampling.resample_folder`.
        jobs: files at a time; None for one per processor.
        progress: whether to show bars.
        overwrite: whether to replace audio and tables that this program did not write.

    Raises:
        InputError: `basedir` is missing or contains nothing to prepare; `out_dir` is not writable.
    """
    layout = DataLayout(data, basedir, out_dir or basedir)
    _check(layout)
    wanted = [part for part in DATA_PARTS if part in set(parts)]
    steps: list[PreparationStep] = []
    if "maestro" in wanted:
        steps += _cut(layout, jobs, progress, overwrite)
    steps += resample_parts(
        layout, wanted, bits=bits, jobs=jobs, progress=progress, overwrite=overwrite
    )
    steps += _durations(layout, wanted, jobs, progress)
    absent = tuple(_absent(layout, wanted))
    if not steps and not any(layout.found(f.key).exists() for f in FOLDERS if f.part in wanted):
        raise InputError(
            f"{basedir}: contains nothing to prepare for {', '.join(wanted)}; fetch the "
            f"archives, put the audio there, e.g. in {absent[0][1]}, or use --mini"
        )
    return PreparationResult(tuple(steps), absent)


def _check(layout: DataLayout) -> None:
    if not layout.basedir.is_dir():
        where = looked_up_from(layout.basedir)
        raise InputError(
            f"{layout.basedir}: no such folder{where}; give the one that holds dcase/dataset with "
            "--basedir, or use --mini"
        )
    try:
        layout.out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{layout.out_dir}: cannot be created ({error}); change --out_dir"
        ) from None
    if not os.access(layout.out_dir, os.W_OK):
        raise InputError(
            f"{layout.out_dir}: cannot be written to; change --out_dir or its permissions"
        )


def _cut(
    layout: DataLayout, jobs: int | None, progress: bool, overwrite: bool
) -> Iterator[PreparationStep]:
    """Cut the training and validation recordings that are on disk."""
    stems = _recordings_there(layout)
    for split in _SPLITS:
        if not stems.intersection(split.recordings):
            continue
        title = f"MAESTRO real, {split.name} cut"
        try:
            report = maestro_clips.cut_recordings(
                layout.recordings_audio,
                layout.recordings_labels,
                split.recordings,
                layout.made(f"{split.key}_folder_44k"),
                layout.made(f"{split.key}_tsv"),
                window_s=layout.data.audio_max_len,
                hop_s=split.hop_s,
                jobs=jobs,
                progress=progress,
                overwrite=overwrite,
            )
        except InputError as error:
            yield PreparationStep(title, 0, 0, ((layout.recordings_audio, str(error)),))
        else:
            yield PreparationStep(title, report.done, report.skipped, report.failed)


def _recordings_there(layout: DataLayout) -> set[str]:
    try:
        return {path.stem for path in list_wavs(layout.recordings_audio, recursive=True)}
    except InputError:
        return set()


def _durations(
    layout: DataLayout, parts: list[str], jobs: int | None, progress: bool
) -> Iterator[PreparationStep]:
    """Write durations of the original clips: those of 16 kHz files are rounded to samples."""
    for part, table_key, folder, title in (
        (
            "synth",
            "synth_val_dur",
            original_folder(layout, "synth_val_folder"),
            "synthetic, validation",
        ),
        ("real", "test_dur", original_folder(layout, "test_folder"), "DESED validation"),
        ("maestro", "real_maestro_val_dur", layout.recordings_audio, "MAESTRO real recordings"),
    ):
        if part not in parts or not folder.is_dir():
            continue
        table, title = layout.found(table_key), f"{title}: durations"
        try:
            # Recordings are known by their names, whatever subfolder they lie in.
            audio = list_wavs(folder, recursive=True) if part == "maestro" else folder
            before = table.is_file()
            done = complete_durations(audio, table, jobs=jobs, progress=progress)
        except InputError:
            continue  # The same folder failed where it was resampled or cut.
        notes = (
            (f"{table}: added {count_of(done.added, 'clip')} that it lacked",) if done.added else ()
        )
        yield PreparationStep(title, int(not before), int(before), done.failed, notes)


def _absent(layout: DataLayout, parts: list[str]) -> Iterator[tuple[str, str]]:
    """List data for training that is missing below both roots, and where it belongs."""
    for title, key in ((f.title, f.key) for f in FOLDERS if f.part in parts):
        source = original_folder(layout, key)
        if not ("maestro" in key or source.exists() or layout.found(key).exists()):
            yield title, str(source)
    for table in TABLES:
        if table.part in parts and not layout.found(table.key).exists():
            yield table.title, str(layout.found(table.key))
    if "maestro" in parts:
        yield from _absent_recordings(layout)


def _absent_recordings(layout: DataLayout) -> Iterator[tuple[str, str]]:
    """List missing recordings; having none is fine if their clips exist."""
    stems = _recordings_there(layout)
    for split in _SPLITS:
        missing = [name for name in split.recordings if name not in stems]
        key = f"{split.key}_folder"
        cut_before = original_folder(layout, key).exists() or layout.found(key).exists()
        if missing and (stems or not cut_before):
            what = f"MAESTRO {split.name}, {len(missing)} of {len(split.recordings)}"
            names = ", ".join(name + ".wav" for name in missing[:3])
            yield (what, f"{layout.recordings_audio} ({names}{', ...' * (len(missing) > 3)})")
