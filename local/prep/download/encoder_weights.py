"""Fetch released weights of encoders into ./pretrained_models, and say what the files hold.

    plan = plan_weights(weights_of_names(["atst_frame"]).rows, load_sources())
    for outcome in fetch_weights(plan):
        print(outcome.text)

A file arrives in `pretrained_models/downloads` and moves up once it has been opened, so a web page
or half a file is never taken for weights.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from desed_task.atomic_files import sha256_of
from desed_task.encoders.registry import kind_of
from desed_task.encoders.released import ReleasedWeights
from desed_task.errors import InputError, command_line, count_of
from local.prep.download.archives import MOST_AT_ONCE, ByteBar, alone_in, bring
from local.prep.download.plan import format_bytes
from local.prep.download.resumable_download import RetryPolicy, explain_full_disk, file_mismatch
from local.prep.download.unpack_record import DOWNLOADS_FOLDER
from local.prep.download.weights_plan import WeightsPlan, WeightsRow

# Beginnings of what servers send instead of a file.
_INSTEAD = {b"<": "a web page", b"{": "JSON", b"version https://git-lfs": "a pointer of Git LFS"}
_AGAIN = "move it away and run the same command again"
_STRONG_HEAD = "strong_head.weight"


@dataclass(frozen=True)
class FetchedWeights:
    """What became of a file of weights.

    Attributes:
        weights: which.
        path: its place.
        fetched: whether it was fetched now, rather than there before.
        content: what it holds; "" after a failure.
        n_classes: of its strong head, with which it is a detector; 0 if it has none.
        sha256: of the file; "" after a failure.
        problem: why it failed; "" if it did not.
    """

    weights: ReleasedWeights
    path: Path
    fetched: bool = False
    content: str = ""
    n_classes: int = 0
    sha256: str = ""
    problem: str = ""

    @property
    def state(self) -> str:
        """In words."""
        return "FAILED" if self.problem else "fetched" if self.fetched else "there before"

    @property
    def text(self) -> str:
        """What the file holds, its checksum, and the commands that use it."""
        lines = [f"{self.path}: {self.content}", f"  SHA-256 {self.sha256}"]
        lines.append(f"  next: {self.next_command}")
        if self.n_classes:
            file = shlex.quote(self.path.as_posix())
            detect = command_line("predict.py", f"--checkpoint {file} RECORDING")
            lines.append(f"  or, without training: {detect}")
        return "\n".join(lines)

    @property
    def next_command(self) -> str:
        """The command that extracts embeddings with it."""
        settings = f"--set pretrained.model={self.weights.encoder}"
        if self.path.name != kind_of(self.weights.encoder).default_file:
            settings += f" --set pretrained.checkpoint={shlex.quote(self.path.as_posix())}"
        return command_line("extract_embeddings.py", settings)


def fetch_weights(
    plan: WeightsPlan,
    *,
    jobs: int | None = None,
    progress: bool = True,
    policy: RetryPolicy | None = None,
) -> Iterator[FetchedWeights]:
    """Download what is missing, open every file and say what it holds; nothing is overwritten.

    Args:
        plan: of `plan_weights`.
        jobs: files downloaded in parallel; None for four.
        progress: whether to show bars and report retries.
        policy: retries and timeouts.

    Returns:
        One outcome per file. A failure is told in its outcome, and the others continue.

    Raises:
        InputError: the disk is too small, the folder cannot be written, or another run is
            fetching into it.
        KeyboardInterrupt: after Ctrl-C; downloads end within one block, partial files are kept.
    """
    if plan.left > plan.free:
        raise InputError(
            f"{plan.folder}: has room for {format_bytes(plan.free)}, but "
            f"{format_bytes(plan.left)} must be fetched; free some, name fewer weights, or start "
            "in a folder on another disk"
        )
    if all(one.row.there for one in plan.rows):
        yield from (_finished(plan.folder, one, _Arrival()) for one in plan.rows)
        return
    stop = threading.Event()
    fetch = partial(_arrive, plan.folder, stop=stop, progress=progress, policy=policy)
    n_jobs = min(jobs or MOST_AT_ONCE, len(plan.rows))
    with alone_in(plan.folder / DOWNLOADS_FOLDER), ThreadPoolExecutor(n_jobs) as pool:
        try:
            # Opened one after another: that takes memory of the file's size.
            for one, arrival in zip(plan.rows, pool.map(fetch, plan.rows), strict=True):
                yield _finished(plan.folder, one, arrival)
        except BaseException:
            # Otherwise the pool would wait for minutes of downloads.
            stop.set()
            raise


@dataclass(frozen=True)
class _Arrival:
    """What a download has led to.

    Attributes:
        archive: the file in the folder of downloads; None if the weights were in their place.
        is_new: whether this run has downloaded it, rather than the user put it there.
        problem: why the file could not be fetched.
    """

    archive: Path | None = None
    is_new: bool = False
    problem: str = ""


def _arrive(
    folder: Path,
    one: WeightsRow,
    *,
    stop: threading.Event,
    progress: bool,
    policy: RetryPolicy | None,
) -> _Arrival:
    """Download one file; errors become its problem, so that the others continue."""
    row, target = one.row, folder / one.weights.file
    if row.there:
        return _Arrival()
    archive = folder / DOWNLOADS_FOLDER / one.weights.file
    try:
        if target.exists():
            fault = file_mismatch(target, row.source.size, row.source.checksum)
            raise InputError(f"{target}: {fault or 'is not a file'}; {_AGAIN}")
        if row.problem and not row.remotes:
            raise InputError(row.problem)
        (remote,) = row.remotes.values()
        with (
            explain_full_disk(archive, "the partial file is kept"),
            ByteBar(archive.name, progress) as bar,
        ):
            is_new = not archive.is_file()
            bring(archive, remote, policy, stop, bar)
    except InputError as error:
        return _Arrival(problem=str(error))
    return _Arrival(archive, is_new)


def _finished(folder: Path, one: WeightsRow, arrival: _Arrival) -> FetchedWeights:
    """Open a file, and move it into its place if it holds the weights."""
    target, archive = folder / one.weights.file, arrival.archive
    outcome = FetchedWeights(one.weights, target, fetched=archive is not None)
    if arrival.problem:
        return replace(outcome, problem=arrival.problem)
    try:
        content, n_classes = _content(archive or target, one.weights, arrival.is_new)
        if archive is not None:
            with explain_full_disk(target, f"{archive} is kept"):
                os.replace(archive, target)
    except InputError as error:
        return replace(outcome, problem=str(error))
    return replace(outcome, content=content, n_classes=n_classes, sha256=sha256_of(target))


def _content(path: Path, weights: ReleasedWeights, is_new: bool) -> tuple[str, int]:
    """What a file holds, in words, and the classes of its strong head.

    Raises:
        InputError: it holds no weights (then it is deleted, if it is new), those of another
            encoder, or not all of them.
    """
    from desed_task.encoders.loading import encoder_in, read_weights, recognise  # import torch

    try:
        _refuse_other_formats(path)
        found = read_weights(path)
    except InputError as error:
        if not is_new:
            raise InputError(f"{error}; {_AGAIN}") from None
        path.unlink()
        raise InputError(f"{error}; deleted; fetch it from another server (--mirror)") from None
    try:
        recognised = recognise(found, kind_of(weights.encoder))
        encoder = encoder_in(found, recognised)
    except InputError as error:
        raise InputError(f"{error}; {_AGAIN}") from None
    head = found.state.get(_STRONG_HEAD)
    n_classes = 0 if head is None else len(head)
    words = (
        f"{recognised.kind.title}, {count_of(len(encoder.layers), 'block')} of "
        f"{count_of(encoder.width, 'feature')}"
    )
    if n_classes:
        words += f", with a strong head of {count_of(n_classes, 'class', 'classes')}"
    return words, n_classes


def _refuse_other_formats(path: Path) -> None:
    try:
        with path.open("rb") as file:
            begin = file.read(64).lstrip()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    for start, what in _INSTEAD.items():
        if begin.startswith(start):
            raise InputError(f"{path}: {what} instead of a file of weights")
