"""Fetch the real DESED clips, cut from AudioSet videos, from YouTube by the names in the tables.

    steps = fetch_audioset(places, ["real", "strong"], cookies=Path("cookies.txt"))

Missing clips are listed in `missing_files/missing_files_<set>.tsv` with the reason. The table is
written before the first request and again after each failure, so that a run may end at any time.
The next run tries the clips in the table, except for reasons that begin with "gone" (private,
removed, blocked) and, without cookies, with "sign-in".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from desed_task.audio.files import remove_stale_wavs
from desed_task.errors import InputError, count_of
from desed_task.parallel import Progress, progress_of, write_line
from local.cli.exit_status import StoppedError
from local.cli.redaction import redact
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

# The pause between requests is longer than a clip takes, so more jobs would only wait.
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
    """Fetch all clips that the parts' tables list and that are not on disk.

    A set that cannot be fetched is a failure; nothing is raised, so that the data on disk can be
    prepared.

    Args:
        layout: paths of tables and clips; clips are written below `basedir`.
        parts: names from `layout.DATA_PARTS`.
        cookies: file of an account's cookies, exported from a browser.
        retry_gone: whether to try clips again that an earlier run found to be gone.
        limits: rate limits and retries.
        jobs: clips at a time; None for four.
        progress: whether to show bars and report waits.

    Returns:
        One step per set: clips fetched, clips that existed, and failures. Clips that are gone are
        not failures; the title counts them.
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
    """Fetch the clips missing from a folder, and write which are still missing and why.

    Args:
        names: unique file names; names that are not YouTube names are only listed as missing.
        folder: folder of clips at 44.1 kHz; created if missing.
        missing: table of missing clips, with columns filename and reason.
        youtube: the client, shared by all sets to keep the rate limit.
        title: title of the bar.
        resampled: folder of 16 kHz clips, which are not missing either.
        retry_gone: whether to try clips again that the table marks as gone.
        jobs: clips at a time; None for four.
        progress: whether to show a bar.

    Returns:
        As in `fetch_audioset`.

    Raises:
        InputError: there are clips to fetch, but yt-dlp, ffmpeg or the cookies are missing; the
            table cannot be written, or another run has locked it.
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
    """The download of one set.

    Attributes:
        table: the table of missing clips.
        done: number of clips fetched.
    """

    def __init__(self, folder: Path, table: MissingTable, youtube: YouTubeClient) -> None:
        self.table = table
        self.done = 0
        self._folder = folder
        self._youtube = youtube
        self._failed: dict[str, str] = {}
        self._left = 0

    def fetch(self, cuts: Sequence[ClipCut], jobs: int, new_bar: Callable[[], Progress]) -> None:
        """Try each clip; once the rate limiter has given up, the others end at once."""
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
            # Running downloads finish; their clips count.
            pool.shutdown(cancel_futures=True)
            for future in [future for future in asked if not future.cancelled()]:
                self._settle(future, asked[future], bar)
            self.table.write()

    def failures(self, title: str) -> tuple[tuple[Path, str], ...]:
        """Return (file, reason) of each failure, and why requests ended early, if they did."""
        failures = [(self._folder / name, f"{name}: {why}") for name, why in self._failed.items()]
        closed = self._youtube.rate_limiter.closed
        if closed is not None and self._left:
            failures.append(
                (
                    self.table.path,
                    f"{title}: {count_of(self._left, 'clip is', 'clips are')} left; {closed}",
                )
            )
        return tuple(failures)

    def _settle(self, future: Future[None], name: str, bar: Progress) -> None:
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


def _bar(title: str, total: int, left: int, progress: bool) -> Progress:
    return progress_of(title, total, unit="clip", initial=total - left, shown=progress)


def _teller(progress: bool) -> Callable[[str], None]:
    if not progress:
        return lambda message: None
    return lambda message: write_line(redact(message))
