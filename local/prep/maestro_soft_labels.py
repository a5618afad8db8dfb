"""Read MAESTRO's soft labels: one file per recording, one line per second and annotated class.

onset <tab> offset <tab> label <tab> soft value
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import read_text
from desed_task.dataio.annotations import LONGEST_S
from desed_task.errors import InputError, count_of
from desed_task.file_names import looked_up_from

_SUFFIXES = (".txt", ".tsv", ".csv")


class SoftLabels(NamedTuple):
    """A recording's annotation: (event,) arrays in the order of the file's lines.

    Attributes:
        onset_s, offset_s: seconds in the recording.
        label: class names.
        value: share of the annotators who heard it, in [0, 1].
    """

    onset_s: NDArray[np.float64]
    offset_s: NDArray[np.float64]
    label: tuple[str, ...]
    value: NDArray[np.float64]


def label_files(folder: Path) -> list[Path]:
    """List the annotation files below a folder, sorted.

    Raises:
        InputError: the folder does not exist or contains no text file.
    """
    if not folder.is_dir():
        where = looked_up_from(folder)
        raise InputError(
            f"{folder}: no such folder{where}; unpack development_annotation.zip there"
        )
    entries = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    # Archives made on a Mac contain a hidden companion of each file.
    found = [p for p in entries if not p.name.startswith(".")]
    if not found:
        raise InputError(
            f"{folder}: contains no *.txt annotations; unpack development_annotation.zip there"
        )
    return found


def read_soft_labels(path: Path) -> SoftLabels:
    """Read one recording's annotation.

    Raises:
        InputError: with every faulty line: not four fields, not a number, not finite, offset not
            after onset, a time above a week, a value outside [0, 1], an empty label.
    """
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise InputError(f"{path}: is not readable as text ({error}); fetch it again") from None
    events: list[tuple[float, float, str, float]] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                events.append(_parse_line(line))
            except ValueError as error:
                problems.append(f"line {number}: {error}")
    if problems:
        raise InputError.collect(problems, f"{path}: correct these lines or fetch the file again:")
    numbers = np.array([(on, off, value) for on, off, _, value in events]).reshape(-1, 3)
    labels = tuple(label for _, _, label, _ in events)
    return SoftLabels(numbers[:, 0], numbers[:, 1], labels, numbers[:, 2])


def _parse_line(line: str) -> tuple[float, float, str, float]:
    fields = [field.strip() for field in line.split("\t")]
    if len(fields) != 4:
        raise ValueError(
            f"{count_of(len(fields), 'field')} instead of onset, offset, label, value with tabs "
            f"between: {line!r}"
        )
    onset_s, offset_s = _number(fields[0], "onset"), _number(fields[1], "offset")
    label, value = fields[2], _number(fields[3], "soft value")
    if onset_s < 0:
        raise ValueError(f"onset {onset_s} is before the recording")
    if offset_s <= onset_s:
        raise ValueError(f"offset {offset_s} is not after onset {onset_s}")
    if not 0 <= value <= 1:
        raise ValueError(f"soft value {value} is not between 0 and 1")
    if not label:
        raise ValueError("the label is empty")
    return onset_s, offset_s, label, value


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{what} {text!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{what} {text!r} is not finite")
    if number > LONGEST_S:
        raise ValueError(f"{what} {text!r} is more than a week of seconds")
    return number
