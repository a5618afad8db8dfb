"""Which recordings this process has to process, of all that a command names."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from desed_task.errors import InputError, count_of
from local.predict.archives.changes import added_since, added_text
from local.predict.archives.other_archives import clash_text
from local.predict.archives.shard_states import StateFile
from local.predict.archives.shards import Shard, split
from local.predict.archives.stored_listing import (
    DEVICES,
    ArchiveListing,
    ArchiveRow,
    listing_of_shards,
    new_listing,
    recording_of,
)
from local.predict.recordings import NOT_READ, FoundRecordings, Recording, find_recordings
from local.predict.result_names import files_of_all, refuse_shared_files
from local.processes.world import world_here


class Share(NamedTuple):
    """The recordings of a process.

    Attributes:
        found: its recordings; faults and notes are in the first process of the first shard only.
        lengths_s: their lengths in seconds; None if they are not known yet.
        whole: recordings of all processes in the first one, which writes the table of all events;
            empty in others, and for a shard, whose table is written by `--merge`.
        writer: tells this process from others that write into the output folder at the same time;
            "" for a single one.
        state: where the first process of a shard notes what it has come to.
        n_of_all: number of recordings of all processes.
    """

    found: FoundRecordings
    lengths_s: Sequence[float] | None = None
    whole: Sequence[Recording] = ()
    writer: str = ""
    state: StateFile | None = None
    n_of_all: int = 0

    def finish_without_recordings(self) -> int:
        """End a shard that has no recording, and so is not the first; returns the exit status."""
        for note in self.found.notes:
            print(note)
        if self.state is not None:
            self.state.begin({})
            self.state.finish({})
        return 0


def share_of(args: argparse.Namespace) -> Share:
    """The recordings of this process; a collective call if there are several.

    Args:
        args: `recordings`, `shard`, `output_dir` and `formats`.

    Raises:
        InputError: there is no recording, or two would write one file.
    """
    world = world_here()
    if args.shard is None and not world.several:
        found = find_recordings(args.recordings)
        if not found.recordings:
            raise InputError.collect(found.faults, NOT_READ)
        return Share(found, whole=found.recordings, n_of_all=len(found.recordings))
    sent, share = _of_all(args, world.size) if world.is_first else (None, None)
    if world.several:
        from desed_task.distributed.collectives import given_by_first

        own = given_by_first(sent)
    else:
        assert sent is not None
        own = sent[0]
    recordings = [Recording(Path(path), name, listed) for path, name, listed, _ in own.rows]
    lengths_s = [ms / 1000 for *_, ms in own.rows]
    if share is None:
        share = Share(FoundRecordings([], [], [], own.several))
    found = share.found._replace(recordings=recordings)
    names = [own.key]
    names += [f"{args.shard.number}-{args.shard.total}"] if args.shard else []
    names += [f"{world.rank + 1}-{world.size}"] if world.several else []
    writer = ".".join(names)
    return share._replace(found=found, lengths_s=lengths_s, writer=writer, n_of_all=own.n_of_all)


class _Sent(NamedTuple):
    """What the first process sends to another one.

    Attributes:
        rows: path, name, listed name and milliseconds of each of its recordings.
        key: of the archive.
        several: whether the archive has a table of all events.
        n_of_all: number of recordings of all processes.
    """

    rows: list[tuple[str, str, str, int]]
    key: str
    several: bool
    n_of_all: int


def _of_all(args: argparse.Namespace, n_processes: int) -> tuple[list[_Sent], Share]:
    """What each process gets, and what only the first one has."""
    inputs, shard = args.recordings, args.shard
    if shard is None:
        listing = new_listing(args.output_dir, inputs, DEVICES)
        rows = list(listing.rows())
        whole = [recording_of(row, inputs) for row in rows]
        found = FoundRecordings([], listing.faults, listing.notes, listing.several)
        share = Share(found, whole=whole)
    else:
        listing = listing_of_shards(args.output_dir, inputs)
        rows = rows_of_shard(listing, shard)
        share = Share(_found_by(listing, shard, rows, args), state=StateFile(listing, shard))
    if (shard is None or shard.number == 1) and (clash := clash_text(listing, args.output_dir)):
        warnings.warn(clash, UserWarning, stacklevel=2)
    of_all = files_of_all(args.formats) if shard is not None or listing.several else []
    refuse_shared_files(
        lambda: (recording_of(row, inputs) for row in listing.rows()),
        args.output_dir,
        args.formats,
        of_all=of_all,
    )
    sent = [_Sent([], listing.key, listing.several, len(rows)) for _ in range(n_processes)]
    for row, part in zip(rows, split([row.length.ms for row in rows], n_processes), strict=True):
        path = os.fspath(row.place.path(inputs))
        sent[part].rows.append((path, row.name, row.listed, row.length.ms))
    return sent, share


def rows_of_shard(listing: ArchiveListing, shard: Shard) -> list[ArchiveRow]:
    """The recordings of a shard, in the order of the listing."""
    parts = split(listing.lengths_ms(), shard.total)
    return [
        row for row, part in zip(listing.rows(), parts, strict=True) if part == shard.number - 1
    ]


def _found_by(
    listing: ArchiveListing, shard: Shard, rows: Sequence[ArchiveRow], args: argparse.Namespace
) -> FoundRecordings:
    """Faults and notes of a shard: those of the whole archive belong to the first one."""
    hours = sum(row.length.ms for row in rows) / 3_600_000
    total = f"{count_of(listing.n_recordings, 'recording')}, listed {listing.listed_at}"
    line = f"shard {shard}: {count_of(len(rows), 'recording')} ({hours:.2f} h) of {total}"
    if not rows:
        line = f"shard {shard}: no recording, as there are more shards than recordings ({total})"
    notes, faults = [line], []
    if "tsv" not in args.formats:
        notes.append("without the format tsv, --merge will find no events")
    if shard.number == 1:
        notes, faults = [*listing.notes, *notes], listing.faults
        if added := added_since(listing, args.recordings):
            warnings.warn(added_text(listing, added), UserWarning, stacklevel=2)
    return FoundRecordings([], faults, notes, listing.several)
