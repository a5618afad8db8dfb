"""The plan of a mini tree: its sounds, and the content of its tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from local.prep.mini_corpus.clip_plans import plan_recording
from local.prep.mini_corpus.soundscapes import REAL, Domain, PlannedEvent, SoundscapePlan


class TreeClip(NamedTuple):
    """A file of audio.

    Attributes:
        path: below the root of the tree, with `/`.
        plan: its sounds.
        n_bits: of a sample, 16 or 24.
    """

    path: str
    plan: SoundscapePlan
    n_bits: int = 16

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """Its name without ending."""
        return self.name.removesuffix(".wav")

    def events(self, labels: Mapping[str, str]) -> list[PlannedEvent]:
        """Its listed events, with labels for the names of sounds."""
        listed = (event for event in self.plan.events if event.listed)
        return [event._replace(label=labels[event.label]) for event in listed]


class MiniTree(NamedTuple):
    """A small corpus.

    Attributes:
        root: of the task's description, below the folder of the tree; "" for the folder itself.
        clips: files of audio.
        texts: path below the root -> content of a table.
        batch_size: rows of a training batch for which there are enough clips.
        splits: corpus -> its split, where that of the real corpus would leave nothing.
    """

    root: str
    clips: tuple[TreeClip, ...]
    texts: Mapping[str, str]
    batch_size: tuple[int, ...]
    splits: Mapping[str, Mapping[str, object]] = MappingProxyType({})


def plan_clips(
    seed: tuple[int, ...],
    paths: Sequence[str],
    sounds: Sequence[str],
    durations_s: Sequence[float],
    *,
    domain: Domain = REAL,
    channels: int = 1,
    n_bits: int = 16,
) -> tuple[TreeClip, ...]:
    """Plan clips in which each sound occurs, by turns.

    Args:
        seed: of this set; each clip has its own generator.
        paths: of the files; their order gives the turns.
        sounds: names of `SOUNDS`.
        durations_s: lengths, repeated for the further files.
        domain: acoustics.
        channels: 1 or 2.
        n_bits: of a sample.
    """
    clips = []
    for index, path in enumerate(paths):
        # Two at least, so that sounds overlap.
        own = [*sounds[index :: len(paths)], sounds[(index + 1) % len(sounds)]]
        duration_s = durations_s[index % len(durations_s)]
        plan = plan_recording((*seed, index), [*dict.fromkeys(own)], duration_s, channels, domain)
        clips.append(TreeClip(path, plan, n_bits))
    return tuple(clips)


def tab_lines(rows: Iterable[Sequence[object]]) -> str:
    """Rows of a table with tabs."""
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def comma_lines(rows: Iterable[Sequence[object]]) -> str:
    """Rows of a table with commas; what contains one is quoted."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
