"""`predict.py --list_checkpoints`: which detectors can be had, and how; without PyTorch."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from desed_task.audioset.classes import STRONG_SIZE, map_names
from desed_task.audioset.released_files import detectors, fetching
from desed_task.checkpoints.file_kind import holds_event_head
from desed_task.checkpoints.run_folders import runs_in
from desed_task.encoders.weights_file import WEIGHTS_FOLDER
from desed_task.errors import command_line, count_of
from desed_task.file_names import escape_name
from local.predict.first_steps import PUBLISHED, RUNS
from local.predict.flags import OF_EVENTS, name_unused

# Weights of the encoders, in millions; their heads add 2 x 447 x width.
_PARAMETERS = {"atst_frame": 85.42, "fpasst": 88.42, "asit": 85.48, "m2d": 85.49, "beats": 90.31}
_WIDTHS = {"m2d": 3840}
_MOST_RUNS = 10
_COLUMNS = ("name", "size", "there", "PSDS1", "detector", "licence")


class _Row(NamedTuple):
    """A detector: the cells of `_COLUMNS`, and the command that gets it."""

    cells: tuple[str, str, str, str, str, str]
    command: str = ""


def list_checkpoints(args: argparse.Namespace) -> int:
    """Print the detectors that can be had and those that are there; the exit status is 0."""
    unused = ("checkpoint", "conf_file", "pretrained_model", *OF_EVENTS)
    name_unused(args, "--list_checkpoints only lists detectors", unused)
    if args.recordings:
        n_given = count_of(len(args.recordings), "recording is", "recordings are")
        print(f"--list_checkpoints only lists detectors: {n_given} not processed")
    print(table())
    return 0


def table() -> str:
    """The detectors that can be had, and those that are on this disk."""
    rows = [*_released(), _published(), *_others(), *_trained()]
    cells = [_COLUMNS, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_line(_COLUMNS, widths)]
    for row in rows:
        lines += [_line(row.cells, widths), *[f"  get it: {row.command}"] * bool(row.command)]
    predict = command_line("predict.py", "street.wav --checkpoint")
    return "\n".join(
        [
            *lines,
            "PSDS1: published; on AudioSet's strong evaluation set (mean over 407 classes), of the "
            "baseline on DESED's validation set",
            f"detectors of AudioSet need no training: {predict} NAME; --classes CORPUS maps their "
            f"classes to those of {', '.join(map_names())}",
            f"several are averaged: {predict} NAME --checkpoint OTHER",
        ]
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _released() -> Iterator[_Row]:
    for row in detectors():
        path = Path(WEIGHTS_FOLDER, row.file)
        is_there = path.is_file()
        heads = 2 * STRONG_SIZE * _WIDTHS.get(row.encoder, 768) / 1e6
        estimate = 4e6 * (_PARAMETERS[row.encoder] + heads)
        size = _size(path.stat().st_size) if is_there else f"about {_size(estimate)}"
        psds1 = "" if row.psds1 is None else f"{row.psds1:.3f}"
        what = f"{row.title}, {STRONG_SIZE} classes"
        cells = (row.name, size, _yes(is_there), psds1, what, row.licence)
        yield _Row(cells, "" if is_there else fetching(row))


def _published() -> _Row:
    is_there = PUBLISHED.is_dir()
    files = list(PUBLISHED.rglob("*.ckpt")) if is_there else []
    size = _size(sum(file.stat().st_size for file in files)) if files else "not stated"
    what = "DCASE 2024 baseline, 27 classes; needs BEATs"
    cells = (str(PUBLISHED), size, _yes(is_there), "0.48", what, "see zenodo.org/records/11280943")
    fetch = command_line("generate_dcase_task4_2024.py", "--only_checkpoint")
    return _Row(cells, "" if is_there else fetch)


def _others() -> Iterator[_Row]:
    """Further detectors in the folder of weights, whatever they are called."""
    known = {row.file for row in detectors()}
    folder = Path(WEIGHTS_FOLDER)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name not in known and path.is_file() and holds_event_head(path):
            size, what = _size(path.stat().st_size), "of AudioSet's classes"
            yield _Row((escape_name(path), size, _yes(True), "", what, ""))


def _trained() -> Iterator[_Row]:
    """The newest runs of trainings in each folder here."""
    places = [RUNS, *(sorted(RUNS.iterdir()) if RUNS.is_dir() else [])]
    found = [run for place in places if place.is_dir() for run in runs_in(place)]
    for run in found[:_MOST_RUNS]:
        yield _Row((escape_name(run), "", _yes(True), "", "trained here", ""))
    if len(found) > _MOST_RUNS:
        more = f"and {count_of(len(found) - _MOST_RUNS, 'more run')} in {RUNS}"
        yield _Row((more, "", "", "", "", ""))


def _yes(is_there: bool) -> str:
    return "there" if is_there else "no"


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:.0f} MB"
