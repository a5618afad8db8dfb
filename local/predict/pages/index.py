"""The index of the pages of several recordings: a table that can be sorted and searched.

It is made from the summaries at the beginning of the pages, so that it does not matter which
process, shard or earlier run has written them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from desed_task.atomic_files import write_text_atomic
from desed_task.file_names import escape_name
from local.predict.pages.document import data_block, document
from local.predict.pages.summaries import PageSummary, read_summary
from local.predict.pages.urls import quoted
from local.predict.recordings import Recording
from local.predict.result_names import INDEX_FILE, paths_of

SCRIPTS = ("numbers.js", "index.js")


class IndexRow(NamedTuple):
    """A recording in an index.

    Attributes:
        name: how the index names it.
        address: of its page, relative to the index.
        summary: of its page.
    """

    name: str
    address: str
    summary: PageSummary


@contextmanager
def index_page(path: Path) -> Iterator[Callable[[IndexRow], None]]:
    """Write an index, which appears when the block ends.

    Args:
        path: the file.

    Yields:
        what takes the recordings, in their order.
    """
    numbers: dict[str, int] = {}
    rows: list[list[Any]] = []

    def add(row: IndexRow) -> None:
        counts = [
            [numbers.setdefault(label, len(numbers)), number]
            for label, number in row.summary.counts.items()
        ]
        rows.append([row.name, row.address, row.summary.duration_s, counts])

    yield add
    facts = {"labels": list(numbers), "rows": rows}
    write_text_atomic(path, document("index", SCRIPTS, {"data": data_block("data", facts)}))


def write_index(folder: Path, recordings: Iterable[Recording]) -> list[str]:
    """Write the index of recordings whose pages are in an output folder.

    Args:
        folder: the output folder.
        recordings: recordings with a page, in their order.

    Returns:
        Messages about pages that cannot be used.
    """
    faults = []
    with index_page(folder / INDEX_FILE) as add:
        for recording in recordings:
            try:
                add(index_row(folder, recording))
            except ValueError:
                faults.append(not_a_page(folder, recording, INDEX_FILE))
    return faults


def index_row(folder: Path, recording: Recording) -> IndexRow:
    """What the index says of a recording.

    Raises:
        ValueError: its page is not one of this program.
        FileNotFoundError: there is none.
    """
    path = paths_of(folder, recording, ["html"])["html"]
    summary = read_summary(path)
    name = escape_name(recording.listed or recording.path.name)
    return IndexRow(name, quoted(path.relative_to(folder).as_posix()), summary)


def not_a_page(folder: Path, recording: Recording, index: str) -> str:
    """The message about a page that `index_row` refuses."""
    path = paths_of(folder, recording, ["html"])["html"]
    return (
        f"{escape_name(path)}: is not a page of this program, so {index} lacks it; remove it and "
        "run again"
    )
