"""`predict.py --list` and `--merge`, which need neither a network nor PyTorch."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from desed_task.errors import InputError, count_of
from desed_task.file_names import escape_name
from local.cli.arguments import check_folders
from local.cli.own_files import own_outputs
from local.predict.archives.changes import added_since, added_text
from local.predict.archives.merging import EVENTS, PAGES, MergeReport, merge_results
from local.predict.archives.other_archives import clash_text
from local.predict.archives.parquet_table import check_pyarrow, parquet_table
from local.predict.archives.stored_listing import (
    SHARDS,
    ArchiveListing,
    new_listing,
    passing_listing,
    stored_listings,
)
from local.predict.event_table import TableWriter, tsv_table
from local.predict.flags import OF_EVENTS, name_unused
from local.predict.pages.index import index_page
from local.predict.recordings import TABLE_NAME
from local.predict.result_names import INDEX_FILE, TABLE_FILE
from local.processes.world import world_here

# Flags of a command that computes, which a job script may give all the same.
_OF_COMPUTING = (
    *("checkpoint", "conf_file", "pretrained_model", *OF_EVENTS),
    *("gpus", "devices", "num_nodes", "batch_size", "skip_existing", "embed_mb"),
)
NO_RESULTS = "Recordings without results:"
_WRITERS: dict[str, TableWriter] = {"tsv": tsv_table, "parquet": parquet_table}
_NAMES = {"tsv": TABLE_FILE, "parquet": f"{TABLE_NAME}.parquet", "html": INDEX_FILE}


def list_archive(args: argparse.Namespace) -> int:
    """List the recordings for shards; the exit status is 1 if an input cannot be used.

    Args:
        args: `recordings` and `output_dir`.
    """
    if not world_here().is_first:
        return 0
    name_unused(args, "--list computes nothing", _OF_COMPUTING)
    listing = new_listing(args.output_dir, args.recordings, SHARDS)
    for note in listing.notes:
        print(note)
    hours = sum(listing.lengths_ms()) / 3_600_000
    print(
        f"{count_of(listing.n_recordings, 'recording')}, {hours:.2f} h of audio, listed for "
        f"--shard in {escape_name(listing.path)}"
    )
    if listing.faults:
        error = InputError.collect(listing.faults, "Inputs not read:")
        print(f"error: {error}", file=sys.stderr)
    return 1 if listing.faults else 0


def merge_archive(args: argparse.Namespace) -> int:
    """Join the events of all recordings; the exit status is 1 if some have no results.

    Args:
        args: `merge` (the format), `recordings`, `output_dir` and `overwrite`.

    Raises:
        InputError: there is nothing to join, or a file of the user would be replaced.
    """
    if not world_here().is_first:
        return 0
    if args.merge == "parquet":
        check_pyarrow()
    name_unused(args, "--merge computes nothing", _OF_COMPUTING)
    check_folders([args.output_dir], "check --output_dir")
    path = args.output_dir / _NAMES[args.merge]
    with _listing(args.output_dir, args.recordings) as listing:
        inputs = args.recordings or listing.inputs
        _refuse_result(listing, path)
        if added := added_since(listing, inputs):
            warnings.warn(added_text(listing, added), UserWarning, stacklevel=2)
        if clash := clash_text(listing, args.output_dir):
            warnings.warn(clash, UserWarning, stacklevel=2)
        with (
            own_outputs(args.output_dir, [path], overwrite=args.overwrite),
            _joined(args.merge, path) as join,
        ):
            report = join(listing, args.output_dir, inputs)
            if not report.n_merged:
                raise InputError.collect(report.faults, NO_RESULTS)
    number = count_of(report.n_merged, "recording")
    what = "pages" if args.merge == "html" else "events"
    print(f"{what} of {number}: {escape_name(path)}")
    if report.faults:
        error = InputError.collect(report.faults, NO_RESULTS, most_shown=len(report.faults))
        print(f"error: {error}", file=sys.stderr)
    return 1 if report.faults else 0


@contextmanager
def _joined(
    kind: str, path: Path
) -> Iterator[Callable[[ArchiveListing, Path, Sequence[Path]], MergeReport]]:
    """What joins results into a table or an index, which appears when the block ends."""
    if kind == "html":
        with index_page(path) as page:
            yield lambda *where: merge_results(*where, path.name, PAGES, page)
        return
    with _WRITERS[kind](path) as table:
        yield lambda *where: merge_results(*where, path.name, EVENTS, table)


@contextmanager
def _listing(output_dir: Path, inputs: Sequence[Path]) -> Iterator[ArchiveListing]:
    """The listing of these inputs, made now where a single process has computed the results.

    Without inputs it is the only one of the folder.
    """
    found: dict[str, ArchiveListing] = {}
    for stored in stored_listings(output_dir):  # the newest first
        found.setdefault(stored.key, stored)
    shown = escape_name(output_dir)
    if inputs:
        wanted = [Path(os.path.abspath(path)) for path in inputs]
        for stored in found.values():
            if stored.inputs == wanted:
                yield stored
                return
        with passing_listing(inputs) as listing:
            yield listing
        return
    if not found:
        raise InputError(
            f"{shown}: has no listing of an archive, which --shard and --devices make; check "
            "--output_dir, or name the recordings, too"
        )
    if len(found) > 1:
        raise InputError.collect(
            [_inputs_text(stored) for stored in found.values()],
            f"{shown}: has results of {len(found)} archives; name the recordings of one of them:",
        )
    yield next(iter(found.values()))


def _inputs_text(listing: ArchiveListing) -> str:
    text = " ".join(escape_name(path) for path in listing.inputs[:3])
    return text + " ..." * (len(listing.inputs) > 3)


def _refuse_result(listing: ArchiveListing, path: Path) -> None:
    """Refuse to replace the table of a single recording called `events`."""
    if path.suffix == ".tsv" and not listing.several:
        row = next(listing.rows())
        if row.name.casefold() == TABLE_NAME:
            raise InputError(
                f"{escape_name(path)}: is the table of the only recording already; there is "
                "nothing to join"
            )
