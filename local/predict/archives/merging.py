"""Join the events, or pages, of all recordings of an archive, and say which have none yet."""

from __future__ import annotations

import errno
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from desed_task.errors import agree, count_of
from desed_task.file_names import escape_name
from desed_task.parallel import track
from local.predict.archives.shard_states import ShardState, mixture_text, states_of
from local.predict.archives.shards import split
from local.predict.archives.stored_listing import ArchiveListing, ArchiveRow, recording_of
from local.predict.event_table import events_of, not_a_table
from local.predict.pages.index import index_row, not_a_page
from local.predict.recordings import Recording

_EXAMPLES = 3
T = TypeVar("T")
# There is no such file, and with some names there cannot be one.
_NO_FILE = frozenset(
    (
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
        *(errno.EILSEQ, errno.EINVAL, errno.ELOOP),
    )
)


@dataclass
class _Missing:
    """Recordings of a shard without results: how many, and the first of them."""

    number: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, row: ArchiveRow) -> None:
        self.number += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(escape_name(row.listed))

    def __str__(self) -> str:
        more = ", ..." if self.number > len(self.examples) else ""
        return f"{count_of(self.number, 'recording')} ({', '.join(self.examples)}{more})"


@dataclass
class MergeReport:
    """What a merge has come to.

    Attributes:
        n_merged: recordings that are joined.
        faults: recordings that are not, by shard or one by one, and inputs that were not read.
    """

    n_merged: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Joinable(Generic[T]):
    """What is joined of each recording.

    Attributes:
        read: reads it from the folder of results; a ValueError says that a file is not ours.
        not_ours: the message about such a file, for the name of what is joined.
        needs: how the command that made the results has to differ to make what is joined, too.
    """

    read: Callable[[Path, Recording], T]
    not_ours: Callable[[Path, Recording, str], str]
    needs: str = ""


EVENTS = Joinable(events_of, not_a_table)
PAGES = Joinable(index_row, not_a_page, " and html in --formats")


def merge_results(
    listing: ArchiveListing,
    output_dir: Path,
    inputs: Sequence[Path],
    name: str,
    source: Joinable[T],
    add: Callable[[T], None],
) -> MergeReport:
    """Hand on the events, or the pages, of all recordings, one by one in the order of the listing.

    Args:
        listing: the archive.
        output_dir: folder of the results.
        inputs: those of the listing.
        name: of what they are joined to, for messages.
        source: what is joined.
        add: takes that of one recording.
    """
    states = states_of(listing)
    if mixed := mixture_text(states):
        warnings.warn(mixed, UserWarning, stacklevel=2)
    failed = {name: why for state in states.values() for name, why in state.faults.items()}
    report = MergeReport(faults=list(listing.faults))
    missing: defaultdict[int, _Missing] = defaultdict(_Missing)
    rows = track(_with_shards(listing, states), "merging", listing.n_recordings, unit="recording")
    for row, shard in rows:
        recording = recording_of(row, inputs)
        try:
            found = source.read(output_dir, recording)
        except ValueError:
            report.faults.append(source.not_ours(output_dir, recording, name))
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            if row.name in failed:
                report.faults.append(failed[row.name])
            else:
                missing[shard].add(row)
        else:
            add(found)
            report.n_merged += 1
    report.faults += _missing_lines(missing, states, source.needs)
    return report


def _with_shards(
    listing: ArchiveListing, states: Mapping[int, ShardState]
) -> Iterator[tuple[ArchiveRow, int]]:
    """The recordings with the numbers of their shards; 0 without shards."""
    if not states:
        yield from ((row, 0) for row in listing.rows())
        return
    n_shards = next(iter(states.values())).shard.total
    parts = split(listing.lengths_ms(), n_shards)
    for row, part in zip(listing.rows(), parts, strict=True):
        yield row, part + 1


def _missing_lines(
    missing: Mapping[int, _Missing], states: Mapping[int, ShardState], needs: str
) -> list[str]:
    """A line per shard with recordings without results."""
    lines = []
    for number, what in sorted(missing.items()):
        if not number:
            has = agree(what.number, "has", "have")
            lines.append(
                f"{what} {has} no results; run the same command again with --skip_existing{needs}"
            )
            continue
        total = next(iter(states.values())).shard.total
        state = str(states[number]) if number in states else "never begun"
        lines.append(
            f"shard {number}/{total} ({state}): {what}; run the same command again with "
            f"--skip_existing{needs}"
        )
    return lines
