"""The real clips of DESED: cuts of AudioSet's videos, fetched from YouTube by the names in tables.

    steps = fetch_audioset(places, ["real", "strong"], cookies=Path("cookies.txt"))

A clip that is not there stands in `missing_files/missing_files_<set>.tsv` with the reason. The
table is written before the first clip is asked for and again with each failure, so that a run may
end in any way. The next run tries what is in the table, but for reasons that begin with "gone"
(private, removed, blocked), and with "sign-in" as long as there are no cookies.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from desed_task.audio.files import remove_stale_wavs
from desed_task.errors import InputError
from local.cli.exit_status import StoppedError
from local.prep.layout import DataLayout
from local.prep.resample import PreparationStep
from local.prep.youtube.client import ClipCut, YouTubeClient
from local.prep.youtube.clip_sets import (
    AUDIOSET_CLIPS,
    absent_clips,
    clip_folders,
    listed_names,
    missing_table,
)
from local.prep.youtube.errors import ClipError, Failure
from local.prep.youtube.missing_clips import MissingTable, missing_reason
from local.prep.youtube.rate_limit import GaveUpError, RateLimits

# The pause between requests is longer than a clip takes, so more would only wait.
_AT_ONCE = 4


def fetch_audioset(
    layout: DataLayout,
    parts: Iterable[str],
    *,
    cookies: Path | None = None,
    retry_gone: bool = False,
    limits: RateLimits | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> list[PreparationStep]:
    """Fetch every clip that the tables of the parts list and the disk lacks.

    A set that cannot be fetched is a failure; nothing is raised, so that what is on disk can be
    prepared.

    Args:
        layout: where tables and clips lie; clips are written below `basedir`.
        parts: of `layout.DATA_PARTS`.
        cookies: file of an account's cookies, as browsers export them.
        retry_gone: try clips again that an earlier run has found to be gone.
        limits: how fast and how patiently to ask.
        jobs: clips at a time; None for four.
        progress: show bars, and tell of waits.

    Returns:
        One step a set: clips fetched, clips there before, and what failed. Clips that are gone are
        no failures; the title counts them.
    """
    wanted, steps = set(parts), []
    youtube = YouTubeClient(cookies=cookies, limits=limits, say=_teller(progress))
    for clip_set in AUDIOSET_CLIPS:
        if clip_set.part not in wanted:
            continue
        table = missing_table(layout, clip_set.name)
        folder, resampled = clip_folders(layout, clip_set)
        try:
            step = fetch_clips(
                listed_names(layout, clip_set.name),
                folder,
                table,
                youtube=youtube,
                title=clip_set.title,
                resampled=resampled,
                retry_gone=retry_gone,
                jobs=jobs,
                progress=progress,
            )
        except InputError as error:
            step = PreparationStep(clip_set.title, 0, 0, ((table, f"{clip_set.title}: {error}"),))
        steps.append(step)
    return steps


def fetch_clips(
    names: Sequence[str],
    folder: Path,
    missing: Path,
    *,
    youtube: YouTubeClient,
    title: str = "clips",
    resampled: Path | None = None,
    retry_gone: bool = False,
    jobs: int | None = None,
    progress: bool = True,
) -> PreparationStep:
    """Fetch the clips that a folder lacks, and write which are still missing, and why.

    Args:
        names: file names, each once; those that are no YouTube names are only listed as missing.
        folder: for clips at 44.1 kHz; made when absent.
        missing: the table, with columns filename and reason.
        youtube: asks; one for all sets, so that its pace is kept.
        title: of the bar.
        resampled: clips that are here are not missing either.
        retry_gone: try clips again that the table says are gone.
        jobs: clips at a time; None for four.
        progress: show a bar.

    Returns:
        As `fetch_audioset`.

    Raises:
        InputError: there are clips to fetch, but yt-dlp, ffmpeg or the cookies are not there; the
            table cannot be written, or another run has it.
    """
    folders = [folder] if resampled is None else [folder, resampled]
    absent = absent_clips(names, folders, f"{title}: looking", jobs=jobs, progress=progress)
    work = _Work(folder, MissingTable(missing, absent), youtube)
    if absent:
        with work.table.alone():
            cuts = work.table.to_fetch(retry_gone=retry_gone, signed_in=bool(youtube.cookies))
            bar = partial(_bar, title, len(names), len(cuts), progress)
            work.fetch(cuts, jobs or _AT_ONCE, bar)
    else:
        work.table.write()
    gone = f" ({work.table.n_gone} gone)" if work.table.n_gone else ""
    return PreparationStep(title + gone, work.done, len(names) - len(absent), work.failures(title))


class _Work:
    """The fetching of one set.

    Attributes:
        table: of what is missing.
        done: clips fetched.
    """

    def __init__(self, folder: Path, table: MissingTable, youtube: YouTubeClient) -> None:
        self.table = table
        self.done = 0
        self._folder = folder
        self._youtube = youtube
        self._failed: dict[str, str] = {}
        self._left = 0

    def fetch(self, cuts: Sequence[ClipCut], jobs: int, new_bar: Callable[[], tqdm[Any]]) -> None:
        """Try each clip; once the line is closed, those left end at once."""
        self.table.write()
        self._left = len(cuts)
        if not cuts:
            return
        self._youtube.check()
        remove_stale_wavs(self._folder)
        pool, bar = ThreadPoolExecutor(jobs), new_bar()
        asked = {pool.submit(self._youtube.fetch, cut, self._folder): cut.name for cut in cuts}
        try:
            with bar:
                for future in as_completed(list(asked)):
                    self._settle(future, asked.pop(future), bar)
        except BaseException:
            self._youtube.subprocesses.stop()
            raise
        finally:
            # Those at work end; what they brought counts.
            pool.shutdown(cancel_futures=True)
            for future in [future for future in asked if not future.cancelled()]:
                self._settle(future, asked[future], bar)
            self.table.write()

    def failures(self, title: str) -> tuple[tuple[Path, str], ...]:
        """(file, reason) of what failed, and why no more was asked for, if so."""
        failures = [(self._folder / name, f"{name}: {why}") for name, why in self._failed.items()]
        closed = self._youtube.rate_limiter.closed
        if closed is not None and self._left:
            failures.append((self.table.path, f"{title}: {self._left} clips are left; {closed}"))
        return tuple(failures)

    def _settle(self, future: Future[None], name: str, bar: tqdm[Any]) -> None:
        try:
            future.result()
        except (GaveUpError, StoppedError):
            return
        except ClipError as error:
            self.table.reasons[name] = missing_reason(error)
            if error.kind not in (Failure.GONE, Failure.SIGN_IN):
                self._failed[name] = str(error)
            self.table.write()
        else:
            del self.table.reasons[name]
            self.done += 1
        self._left -= 1
        gone = self.table.n_gone
        bar.set_postfix(fetched=self.done, gone=gone, failed=len(self._failed), refresh=False)
        bar.update()


def _bar(title: str, total: int, left: int, progress: bool) -> tqdm[Any]:
    return tqdm(
        desc=title,
        total=total,
        initial=total - left,
        unit="clip",
        dynamic_ncols=True,
        disable=not progress,
    )


def _teller(progress: bool) -> Callable[[str], None]:
    return partial(tqdm.write, file=sys.stderr) if progress else lambda message: None
