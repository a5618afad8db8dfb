"""Where the file of a released detector is; without PyTorch."""

from __future__ import annotations

from pathlib import Path

from desed_task.encoders.released import RELEASED, ReleasedWeights, released
from desed_task.errors import InputError, command_line


def detectors() -> tuple[ReleasedWeights, ...]:
    """The released files with a head for events."""
    return tuple(row for row in RELEASED if row.pretraining == "strong")


def fetching(row: ReleasedWeights) -> str:
    """The command that gets a released file."""
    return command_line("generate_dcase_task4_2024.py", f"--only_encoders {row.name}")


def released_file(name: str, folder: Path) -> Path:
    """The file of a released detector.

    Args:
        name: of the detector, or its encoder.
        folder: where such files are.

    Raises:
        InputError: an unknown name, a file without a head for events, or a file that is missing.
    """
    known = ", ".join(row.name for row in detectors())
    try:
        row = released(name)
    except InputError:
        raise InputError(f"no released detector {name!r}; known: {known}") from None
    if row not in detectors():
        raise InputError(f"{name}: weights without a head for events, not a detector; take {known}")
    path = folder / row.file
    if not path.is_file():
        raise InputError(f"{path}: not there; get {row.title} with {fetching(row)}")
    return path
