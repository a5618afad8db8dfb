"""One table of the events of all recordings, joined from those of single recordings.

It is copied recording by recording, so that its size is not limited by the memory. A recording
without events has a row whose other cells are empty, as in the challenge's tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from operator import itemgetter
from pathlib import Path

from desed_task.atomic_files import atomic_path
from desed_task.file_names import escape_name
from local.predict.recordings import Recording
from local.predict.result_names import TABLE_FILE, paths_of

EVENT_COLUMNS = ("filename", "onset", "offset", "event_label", "confidence")
_NUMBERS = [EVENT_COLUMNS.index(name) for name in ("onset", "offset", "confidence")]
# Rows of a recording, each with the text of its cells.
Rows = list[Sequence[str]]
TableWriter = Callable[[Path], AbstractContextManager[Callable[[Rows], None]]]


@contextmanager
def tsv_table(path: Path) -> Iterator[Callable[[Rows], None]]:
    """Write a table of tab-separated values, which appears when the block ends."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.write("\t".join(EVENT_COLUMNS) + "\n")
        yield lambda rows: file.writelines("\t".join(row) + "\n" for row in rows)


def write_event_table(folder: Path, recordings: Iterable[Recording]) -> list[str]:
    """Write the events of recordings whose tables are in an output folder into one table.

    Args:
        folder: the output folder.
        recordings: recordings with a table, in the order of the rows.

    Returns:
        Messages about tables of single recordings that cannot be used.
    """
    faults = []
    with tsv_table(folder / TABLE_FILE) as add:
        for recording in recordings:
            try:
                rows = events_of(folder, recording)
            except ValueError:
                faults.append(not_a_table(folder, recording, TABLE_FILE))
            else:
                add(rows)
    return faults


def not_a_table(folder: Path, recording: Recording, table: str) -> str:
    """The message about a recording's table that `events_of` refuses."""
    path = paths_of(folder, recording, ["tsv"])["tsv"]
    return (
        f"{escape_name(path)}: is not a table of events of this program, so "
        f"{table} lacks them; remove it and run again"
    )


def events_of(folder: Path, recording: Recording) -> Rows:
    """The rows of a recording's table, its name replaced; at least one.

    Raises:
        ValueError: it is another table.
        FileNotFoundError: there is none.
    """
    path = paths_of(folder, recording, ["tsv"])["tsv"]
    name = escape_name(recording.listed or recording.path.name)
    rows: Rows = []
    with path.open(encoding="utf-8") as lines:
        if next(lines, "").rstrip("\n").split("\t") != list(EVENT_COLUMNS):
            raise ValueError(path)
        for line in lines:
            cells = line.rstrip("\n").split("\t")
            if len(cells) != len(EVENT_COLUMNS):
                raise ValueError(path)
            for number in filter(None, itemgetter(*_NUMBERS)(cells)):
                float(number)  # raises a ValueError
            rows.append([name, *cells[1:]])
    return rows or [[name, *[""] * (len(EVENT_COLUMNS) - 1)]]
