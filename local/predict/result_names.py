"""Names of result files, and which recordings would share one."""

from __future__ import annotations

from collections import defaultdict
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
    "html": ".html",
}
DEFAULT_FORMATS = ("tsv", "json", "txt", "png")
TABLE_FILE = f"{TABLE_NAME}.tsv"
INDEX_NAME = "index"
INDEX_FILE = f"{INDEX_NAME}.html"
# Files that concern all recordings, and the fault of a recording whose results would lie below.
_OF_ALL = {
    TABLE_FILE: f"would be written below {TABLE_FILE}, the table of all recordings",
    INDEX_FILE: f"would be written below {INDEX_FILE}, the index page of all recordings",
}
_REMEDY = "Rename recordings, or leave out a format:"


def paths_of(folder: Path, recording: Recording, formats: Sequence[str]) -> dict[str, Path]:
    """Map formats to the files of a recording's results."""
    return {one: folder / f"{recording.name}{_ending(recording, one)}" for one in formats}


def _ending(recording: Recording, format_: str) -> str:
    """What follows the name of a recording; that of `index.wav` leaves index.html to the index."""
    if format_ == "html" and recording.name.casefold() == INDEX_NAME:
        return f"{recording.path.suffix or '.recording'}{ENDINGS[format_]}"
    return ENDINGS[format_]


def files_of_all(formats: Sequence[str]) -> list[str]:
    """Names of the files that concern all recordings, if there are several."""
    named = (("tsv", TABLE_FILE), ("html", INDEX_FILE))
    return [name for format_, name in named if format_ in formats]


def refuse_shared_files(
    recordings: Callable[[], Iterable[Recording]],
    folder: Path,
    formats: Sequence[str],
    *,
    of_all: Sequence[str],
) -> None:
    """Refuse recordings that would write one file: `a.scores.wav` must not write those of `a.wav`.

    Args:
        recordings: all of them, whose names differ; called more than once, so that a large archive
            need not be kept in memory.
        folder: the output folder.
        formats: formats of the results.
        of_all: names of the files beside them that concern all recordings.

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
    longer: defaultdict[str, list[tuple[Recording, str]]] = defaultdict(list)
    for one in recordings() if of_all or rests or "html" in formats else ():
        folded = one.name.casefold()  # Some file systems ignore case.
        shared += [
            f"{escape_name(one.path)} {_OF_ALL[name]}"
            for name in of_all
            if folded.startswith(f"{name}/")
        ]
        for rest, short in rests:
            if folded.endswith(rest):
                longer[folded.removesuffix(rest)].append((one, short))
        if "html" in formats and folded == INDEX_NAME:
            ending = _ending(one, "html")
            own = f"{folded}{ending}".removesuffix(ENDINGS["html"]).casefold()
            longer[own].append((one, ending))
    for one in recordings() if longer else ():
        for other, short in longer.get(one.name.casefold(), ()):
            names = f"{escape_name(one.path)} and {escape_name(other.path)}"
            shared.append(f"{names} would both write {escape_name(folder / (other.name + short))}")
    if shared:
        raise InputError.collect(shared, _REMEDY)
