"""What of AudioSet's clips is to be fetched: how many, how large, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from desed_task.audio.resampling import Bits
from desed_task.errors import InputError
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
        title: of the set.
        listed: clips in its table.
        gone: clips that are not there and not tried again.
        seconds: of each clip to fetch.
        problem: why nothing is known of it.
    """

    title: str
    listed: int = 0
    gone: int = 0
    seconds: tuple[float, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class AudiosetPlan:
    """What is to be fetched from YouTube.

    Attributes:
        rows: one a set.
        pause_s: between two clips.
        bits: of the 16 kHz siblings.
        problem: why nothing can be fetched: programs that are not there, for instance.
    """

    rows: tuple[AudiosetPlanRow, ...]
    pause_s: float
    bits: Bits
    problem: str

    @property
    def left(self) -> int:
        """Clips to fetch, as far as is known."""
        return sum(len(row.seconds) for row in self.rows)

    @property
    def needed(self) -> int:
        """Bytes that they take on disk, at most: 16-bit cuts and their 16 kHz siblings."""
        bytes_per_s = _CHANNELS * (2 * CLIP_RATE + self.bits // 8 * 16000)
        return round(sum(sum(row.seconds) for row in self.rows) * bytes_per_s)

    def text(self) -> str:
        """The rows as a table, and what they come to."""
        lines = [f"{'clips from YouTube':<34}{'listed':>8}{'gone':>8}{'to fetch':>10}"]
        for row in self.rows:
            counts = f"{row.listed:>8}{row.gone:>8}{len(row.seconds):>10}"
            lines.append(f"{row.title:<34}{row.problem or counts}")
        lines.append(
            f"to fetch: {self.left} clips, {self.needed / 1e9:.1f} GB with their 16 kHz siblings; "
            f"at one in {self.pause_s:g} s it takes {self.left * self.pause_s / 3600:.0f} hours"
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
    """What `fetch_audioset` would fetch; nothing is asked for and nothing written.

    Args:
        layout: as there, and so are the others.
        parts: of `layout.DATA_PARTS`.
        retry_gone: clips known to be gone are tried.
        signed_in: there are cookies.
        bits: of the 16 kHz siblings; None for 32.
        limits: how fast to ask.
        progress: show bars while looking what is there.
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
        return AudiosetPlanRow(clip_set.title, problem="known once its table is there")
    folders = clip_folders(layout, clip_set)
    absent = absent_clips(names, folders, f"{clip_set.title}: looking", progress=progress)
    table = MissingTable(missing_table(layout, clip_set.name), absent)
    cuts = table.to_fetch(retry_gone=retry_gone, signed_in=signed_in)
    seconds = tuple(cut.end_s - cut.start_s for cut in cuts)
    return AudiosetPlanRow(clip_set.title, len(names), len(absent) - len(cuts), seconds)
