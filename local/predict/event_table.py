"""One table of the events of all recordings, joined from those of single recordings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from desed_task.atomic_files import atomic_path
from desed_task.file_names import escape_name
from local.predict.outputs import EVENT_COLUMNS, paths_of
from local.predict.recordings import TABLE_NAME, Recording

TABLE_FILE = f"{TABLE_NAME}.tsv"
_NO_EVENT = "\t" * (len(EVENT_COLUMNS) - 1)


def write_event_table(folder: Path, recordings: Iterable[Recording]) -> list[str]:
    """Write the events of recordings whose tables are in an output folder into one table.

    It is copied recording by recording, so that its size is not limited by the memory. A recording
    without events has a row whose other cells are empty, as in the challenge's tables.

    Args:
        folder: the output folder.
        recordings: recordings with a table, in the order of the rows.

    Returns:
        Messages about tables of single recordings that cannot be used.
    """
    faults = []
    with (
        atomic_path(folder / TABLE_FILE) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.write("\t".join(EVENT_COLUMNS) + "\n")
        for recording in recordings:
            path = paths_of(folder, recording.name, ["tsv"])["tsv"]
            try:
                # All of them first: a table that is wrong further down adds nothing.
                rows = list(_rows(path, recording.listed or recording.path.name))
            except ValueError:
                faults.append(
                    f"{escape_name(path)}: is not a table of events of this program, so "
                    f"{TABLE_FILE} lacks them; remove it and run again"
                )
            else:
                file.writelines(rows)
    return faults


def _rows(path: Path, listed: str) -> Iterator[str]:
    """The rows of a recording's table, its name replaced; a ValueError for another table."""
    name = escape_name(listed)
    with path.open(encoding="utf-8") as lines:
        if next(lines, "").rstrip("\n").split("\t") != list(EVENT_COLUMNS):
            raise ValueError(path)
        empty = True
        for line in lines:
            cells = line.rstrip("\n").split("\t")
            if len(cells) != len(EVENT_COLUMNS):
                raise ValueError(path)
            empty = False
            yield "\t".join([name, *cells[1:]]) + "\n"
    if empty:
        yield f"{name}{_NO_EVENT}\n"
