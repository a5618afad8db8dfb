"""Names of result files, and which recordings would share one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from desed_task.errors import InputError
from desed_task.file_names import escape_name
from local.predict.recordings import TABLE_NAME, Recording

# Format -> what follows the name of a recording.
ENDINGS = {
    "tsv": ".tsv",
    "json": ".json",
    "txt": ".txt",
    "png": ".png",
    "rttm": ".rttm",
    "scores": ".scores.tsv",
    "npz": ".npz",
}
TABLE_FILE = f"{TABLE_NAME}.tsv"
_REMEDY = "Rename recordings, or leave out a format:"


def paths_of(folder: Path, name: str, formats: Sequence[str]) -> dict[str, Path]:
    """Map formats to the files of a recording called `name`."""
    return {format_: folder / f"{name}{ENDINGS[format_]}" for format_ in formats}


def refuse_shared_files(
    recordings: Callable[[], Iterable[Recording]],
    folder: Path,
    formats: Sequence[str],
    *,
    table: bool,
) -> None:
    """Refuse recordings that would write one file: `a.scores.wav` must not write those of `a.wav`.

    Args:
        recordings: all of them, whose names differ; called more than once, so that a large archive
            need not be kept in memory.
        folder: the output folder.
        formats: formats of the results.
        table: whether a table of all events is written beside them.

    Raises:
        InputError: naming all such recordings.
    """
    shared = []
    # One ending may end another one: .scores.tsv and .tsv.
    endings = [ENDINGS[one] for one in formats]
    rests = {
        (long.removesuffix(short), short)
        for long in endings
        for short in endings
        if long != short and long.endswith(short)
    }
    longer: dict[str, tuple[Recording, str]] = {}
    for one in recordings() if table or rests else ():
        folded = one.name.casefold()  # Some file systems ignore case.
        if table and folded.startswith(f"{TABLE_FILE}/"):
            path = escape_name(one.path)
            shared.append(
                f"{path} would be written below {TABLE_FILE}, the table of all recordings"
            )
        for rest, short in rests:
            if folded.endswith(rest):
                longer[folded.removesuffix(rest)] = one, short
    for one in recordings() if longer else ():
        if one.name.casefold() in longer:
            other, short = longer[one.name.casefold()]
            names = f"{escape_name(one.path)} and {escape_name(other.path)}"
            shared.append(f"{names} would both write {escape_name(folder / (other.name + short))}")
    if shared:
        raise InputError.collect(shared, _REMEDY)
