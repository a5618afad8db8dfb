"""The real clips of DESED: cuts of YouTube videos, named in the tables.

Clips come one by one and many are gone for ever. Those that cannot be had are listed with the
reason in missing_files/missing_files_<set>.tsv; the rest go on, and a second run tries only what is
missing.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from desed_task.errors import InputError
from desed_task.files import write_text_atomic
from local.expected import UNLABELLED_TABLE, listed_clips
from local.prep.layout import Places
from local.prep.youtube import (
    LEFTOVER,
    NOT_TRIED,
    Cut,
    FailedError,
    Fetcher,
    Policy,
    cut_of,
    find_tools,
)

MISSING_FOLDER = "missing_files"
# YouTube notices more; a clip waits for the network most of its time.
DEFAULT_JOBS = 4
# Clips refused in a row, whatever they are: YouTube does not serve this machine for now.
REFUSALS = 10
# Ten seconds at 44.1 kHz, 16 bits, two channels.
_CLIP_BYTES = 10 * 44100 * 2 * 2
_NO_VIDEO = "its name is not of the form Y<video>_<start>_<end>.wav, so no video is known"


class ClipSource(NamedTuple):
    """A set of clips: its part and name, the table that lists it, where its clips go."""

    part: str
    name: str
    table: Path
    folder: Path


class Fetched(NamedTuple):
    """What became of a set: clips fetched now, there before, and clip -> reason of the missing."""

    name: str
    done: int
    there: int
    missing: dict[str, str]


def clip_sources(places: Places, parts: Iterable[str]) -> Iterator[ClipSource]:
    """The sets of some parts whose clips come from YouTube."""
    wanted, weak = set(parts), places.found("weak_tsv")
    for part, name, table, folder_key in (
        ("real", "weak", weak, "weak_folder_44k"),
        ("real", "unlabel_in_domain", weak.with_name(UNLABELLED_TABLE), "unlabeled_folder_44k"),
        ("real", "validation", places.found("test_tsv"), "test_folder_44k"),
        ("strong", "strong", places.found("strong_tsv"), "strong_folder_44k"),
    ):
        if part in wanted:
            yield ClipSource(part, name, table, places.found(folder_key))


def plan_clips(places: Places, parts: Iterable[str]) -> Iterator[str]:
    """What `fetch_clips` would fetch, a line a set."""
    for source in clip_sources(places, parts):
        if not source.table.is_file():
            yield f"clips of {source.name}: not known before {source.table} is there"
            continue
        clip_ids = listed_clips(source.table)
        absent = sum(not (source.folder / f"{clip_id}.wav").is_file() for clip_id in clip_ids)
        size_gb = absent * _CLIP_BYTES / 1e9
        yield f"clips of {source.name}: {absent} of {len(clip_ids)} to fetch, {size_gb:.1f} GB"


def fetch_clips(
    source: ClipSource,
    missing_folder: Path,
    *,
    jobs: int | None = None,
    cookies: Path | None = None,
    policy: Policy | None = None,
    progress: bool = True,
) -> Fetched:
    """Fetch the clips of a set that are not there.

    Args:
        source: the set.
        missing_folder: gets missing_files_<set>.tsv (filename, reason), also when stopped.
        jobs: clips at a time; None for DEFAULT_JOBS.
        cookies: a browser's, in Netscape's format, for videos that ask for a login.
        policy: how patient to be.
        progress: show a bar.

    Raises:
        InputError: the table cannot be read, a program or the cookies are missing, or YouTube
            refuses one clip after the other.
    """
    clip_ids = listed_clips(source.table)
    if cookies is not None and not cookies.is_file():
        raise InputError(f"--cookies {cookies}: no such file; export your browser's cookies to it")
    wanted = [c for c in clip_ids if not (source.folder / f"{c}.wav").is_file()]
    missing = dict.fromkeys(wanted, NOT_TRIED)
    cuts = {clip_id: cut_of(clip_id) for clip_id in wanted}
    missing.update({clip_id: _NO_VIDEO for clip_id, cut in cuts.items() if cut is None})
    known = {clip_id: cut for clip_id, cut in cuts.items() if cut is not None}
    try:
        if known:
            _fetch_all(source, known, missing, jobs, cookies, policy or Policy(), progress)
    finally:
        for clip_id in wanted:
            # Of a run that was stopped, clips that came in the end.
            if (source.folder / f"{clip_id}.wav").is_file():
                missing.pop(clip_id, None)
        _write_missing(missing_folder / f"missing_files_{source.name}.tsv", missing)
    return Fetched(source.name, len(wanted) - len(missing), len(clip_ids) - len(wanted), missing)


def _fetch_all(
    source: ClipSource,
    cuts: dict[str, Cut],
    missing: dict[str, str],
    jobs: int | None,
    cookies: Path | None,
    policy: Policy,
    progress: bool,
) -> None:
    """Fetch clips several at a time; each that is there leaves `missing`."""
    source.folder.mkdir(parents=True, exist_ok=True)
    for leftover in source.folder.glob(f"{LEFTOVER}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    fetcher = Fetcher(source.folder, find_tools(), policy, threading.Event(), cookies)
    pool = ThreadPoolExecutor(jobs or DEFAULT_JOBS)
    at_work = {pool.submit(fetcher.fetch, clip_id, cut): clip_id for clip_id, cut in cuts.items()}
    try:
        with tqdm(
            total=len(cuts),
            desc=source.name,
            unit="clip",
            dynamic_ncols=True,
            disable=not progress,
        ) as bar:
            _collect(at_work, missing, source.name, bar)
    finally:
        # After Ctrl-C or too many refusals: programs at work are ended, the queue is dropped.
        fetcher.stop.set()
        pool.shutdown(cancel_futures=True)


def _collect(
    at_work: dict[Future[None], str], missing: dict[str, str], name: str, bar: tqdm[None]
) -> None:
    refused = n_missing = 0
    for finished in as_completed(at_work):
        clip_id = at_work[finished]
        try:
            finished.result()
            del missing[clip_id]
            refused = 0
        except FailedError as failure:
            missing[clip_id] = str(failure)
            n_missing += 1
            refused = refused + 1 if failure.refused else 0
        bar.set_postfix_str(f"{n_missing} missing", refresh=False)
        bar.update()
        if refused >= REFUSALS:
            raise InputError(
                f"{name}: YouTube refused {refused} clips in a row ({missing[clip_id]}); bring "
                "yt-dlp up to date, wait some hours, give a browser's cookies with --cookies or "
                "fewer --jobs, and run the same command again: what is there stays"
            )


def _write_missing(path: Path, missing: dict[str, str]) -> None:
    rows = [(f"{clip_id}.wav", " ".join(reason.split())) for clip_id, reason in missing.items()]
    lines: Sequence[tuple[str, str]] = [("filename", "reason"), *rows]
    write_text_atomic(path, "".join(f"{name}\t{reason}\n" for name, reason in lines))
