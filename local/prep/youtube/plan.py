"""Plan the download of AudioSet's clips: number, size and duration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from desed_task.audio.resampling import Bits
from desed_task.errors import InputError, count_of
from local.prep.layout import DataLayout
from local.prep.youtube.client import CLIP_RATE, YouTubeClient
from local.prep.youtube.clip_sets import (
    AUDIOSET_CLIPS,
    AudiosetClips,
    absent_clips,
    clip_folders,
    listed_names,
    missing_table,
)
from local.prep.youtube.missing_clips import MissingTable
from local.prep.youtube.rate_limit import RateLimits

_CHANNELS = 2


@dataclass(frozen=True)
class AudiosetPlanRow:
    """One set in a plan.

    Attributes:
        title: title of the set.
        listed: number of clips in its table.
        gone: number of missing clips that are not tried again.
        seconds: length of each clip to fetch.
        problem: why the set cannot be planned.
    """

    title: str
    listed: int = 0
    gone: int = 0
    seconds: tuple[float, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class AudiosetPlan:
    """The planned downloads from YouTube.

    Attributes:
        rows: one per set.
        pause_s: seconds between two clips.
        bits: bits of the 16 kHz siblings.
        problem: why nothing can be fetched, for instance missing programs.
    """

    rows: tuple[AudiosetPlanRow, ...]
    pause_s: float
    bits: Bits
    problem: str

    @property
    def left(self) -> int:
        """Number of clips to fetch, as far as known."""
        return sum(len(row.seconds) for row in self.rows)

    @property
    def needed(self) -> int:
        """Upper bound of the bytes on disk: 16-bit cuts and their 16 kHz siblings."""
        bytes_per_s = _CHANNELS * (2 * CLIP_RATE + self.bits // 8 * 16000)
        return round(sum(sum(row.seconds) for row in self.rows) * bytes_per_s)

    def text(self) -> str:
        """Format the rows as a table with totals."""
        lines = [f"{'clips from YouTube':<34}{'listed':>8}{'gone':>8}{'to fetch':>10}"]
        for row in self.rows:
            counts = f"{row.listed:>8}{row.gone:>8}{len(row.seconds):>10}"
            lines.append(f"{row.title:<34}{row.problem or counts}")
        lines.append(
            f"to fetch: {count_of(self.left, 'clip')}, {self.needed / 1e9:.1f} GB with their 16 "
            f"kHz siblings; at one in {self.pause_s:g} s it takes "
            f"{count_of(round(self.left * self.pause_s / 3600), 'hour')}"
        )
        return "\n".join([*lines, self.problem] if self.problem else lines)


def plan_audioset(
    layout: DataLayout,
    parts: Iterable[str],
    *,
    retry_gone: bool = False,
    signed_in: bool = False,
    limits: RateLimits | None = None,
    bits: Bits | None = None,
    progress: bool = True,
) -> AudiosetPlan:
    """Plan `fetch_audioset`, without requests and without writing.

    Args:
        layout: as in `fetch_audioset`.
        parts: names from `layout.DATA_PARTS`.
        retry_gone: whether clips known to be gone are tried.
        signed_in: whether there are cookies.
        bits: bits of the 16 kHz siblings; None for 32.
        limits: rate limits.
        progress: whether to show bars while checking the disk.
    """
    wanted = set(parts)
    rows = tuple(
        _row(layout, clip_set, retry_gone, signed_in, progress)
        for clip_set in AUDIOSET_CLIPS
        if clip_set.part in wanted
    )
    problem = ""
    if any(row.seconds for row in rows):
        try:
            YouTubeClient().check()
        except InputError as error:
            problem = str(error)
    return AudiosetPlan(rows, (limits or RateLimits()).pause_s, bits or 32, problem)


def _row(
    layout: DataLayout, clip_set: AudiosetClips, retry_gone: bool, signed_in: bool, progress: bool
) -> AudiosetPlanRow:
    try:
        names = listed_names(layout, clip_set.name)
    except InputError:
        return AudiosetPlanRow(clip_set.title, problem="known once its table exists")
    folders = clip_folders(layout, clip_set)
    absent = absent_clips(names, folders, f"{clip_set.title}: looking", progress=progress)
    table = MissingTable(missing_table(layout, clip_set.name), absent)
    cuts = table.to_fetch(retry_gone=retry_gone, signed_in=signed_in)
    seconds = tuple(cut.end_s - cut.start_s for cut in cuts)
    return AudiosetPlanRow(clip_set.title, len(names), len(absent) - len(cuts), seconds)
