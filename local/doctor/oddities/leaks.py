"""Clips that are in two splits: by their file, their YouTube video or their audio."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Final, Literal, NamedTuple

from desed_task.dataio.clip_names import last_part
from desed_task.errors import agree, count_of
from desed_task.file_names import escape_name
from local.doctor.oddities.equal_audio import equal_audio

Use = Literal["training", "validation", "test"]
_VIDEO: Final = re.compile(
    # Yabc_0.000_10.000 and abc_0.000_10.000 of corpora, abc_30000 (milliseconds) of AudioSet.
    r"Y?(?P<id>[\w-]{11})_(?:\d+\.\d+_\d+\.\d+|0|\d+000)|Y(?P<of_int>[\w-]{11})_\d+_\d+",
    re.ASCII,
)
_N_EXAMPLES: Final = 3


class ClipSet(NamedTuple):
    """Clips of a corpus with the same use.

    Attributes:
        title: of the corpus.
        use: what they are for.
        files: clip -> file.
    """

    title: str
    use: Use
    files: Mapping[str, Path]


class Leak(NamedTuple):
    """Clips that two sets share.

    Attributes:
        sets: titles and uses of both.
        by: what is the same: file, YouTube video or audio.
        clips: clip of the first set -> clip of the second.
    """

    sets: tuple[ClipSet, ClipSet]
    by: str
    clips: Mapping[str, str]

    @property
    def concerns_training(self) -> bool:
        """Whether clips that are trained on are scored, which makes scores too good."""
        return any(one.use == "training" for one in self.sets)

    def text(self) -> str:
        """One line: how many clips, of what, in what, with examples."""
        first, second = self.sets
        shown = [
            escape_name(one) if one == other else f"{escape_name(one)} = {escape_name(other)}"
            for one, other in list(self.clips.items())[:_N_EXAMPLES]
        ]
        more = ", ..." if len(self.clips) > _N_EXAMPLES else ""
        verb = agree(len(self.clips), "is", "are")
        return (
            f"{count_of(len(self.clips), 'clip')} of {first.title} ({first.use}) {verb} in "
            f"{second.title} ({second.use}) too, by {self.by} ({', '.join(shown)}{more}); "
            f"{'scores will be too good: ' if self.concerns_training else ''}take "
            f"{agree(len(self.clips), 'it', 'them')} out of one of the two"
        )


def find_leaks(sets: Sequence[ClipSet], *, jobs: int = 8, progress: bool = False) -> Iterator[Leak]:
    """Clips that sets of different uses share; each pair of clips once.

    Args:
        sets: the sets.
        jobs: files whose audio is compared at a time.
        progress: whether to show a bar.
    """
    pairs = [(a, b) for a, b in combinations(sets, 2) if a.use != b.use and a.files and b.files]
    if not pairs:
        return
    names = {path: path for one in sets for path in one.files.values()}
    equal = equal_audio(names, jobs=jobs, progress=progress)
    group_of = {path: str(number) for number, group in enumerate(equal) for path in group}

    def same_audio(_: str, path: Path) -> str | None:
        return group_of.get(path)

    for pair in pairs:
        told: set[str] = set()
        for by, key in (
            ("file", _resolved),
            ("YouTube video", _video),
            ("audio", same_audio),
        ):
            there = {k: clip for clip, path in pair[1].files.items() if (k := key(clip, path))}
            found = {
                clip: there[k]
                for clip, path in pair[0].files.items()
                if clip not in told and (k := key(clip, path)) in there
            }
            told.update(found)
            if found:
                yield Leak(pair, by, found)


def video_of(clip_id: str) -> str | None:
    """The YouTube video that a clip was cut from, by its name; None for other names."""
    match = _VIDEO.fullmatch(last_part(clip_id))
    return None if match is None else match["id"] or match["of_int"]


def _resolved(_: str, path: Path) -> str | None:
    return str(path.resolve())


def _video(clip_id: str, _: Path) -> str | None:
    return video_of(clip_id)
