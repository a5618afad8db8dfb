"""Divide the clips of a corpus among training, validation and test.

See docs/method.md, Classes and corpora.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from desed_task.dataio.clip_names import last_part
from desed_task.errors import InputError
from local.schema.task import SplitDescription
from local.task.corpus import Corpus

# Of tests, which do not change with the seed of a training.
TEST_SEED: Final = 0


class DividedClips(NamedTuple):
    """The parts of a corpus."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = ()

    def of(self, use: str) -> tuple[str, ...]:
        """The clips for "train", "validation" or "test"."""
        clips: tuple[str, ...] = getattr(self, use)
        return clips


def divide(corpus: Corpus, clip_ids: Iterable[str], seed: int, fold: int = 1) -> DividedClips:
    """Divide the clips of a corpus whose split is described.

    The test part comes first: a share, or a fold, of the sorted clips or recordings, which the seed
    does not change. Of the others, validation gets what training leaves.

    Args:
        corpus: gives the split, and the recordings of clips.
        clip_ids: in the order of the table; duplicates are ignored.
        seed: of the division into training and validation.
        fold: which fold is tested on, from 1 on.

    Raises:
        InputError: a split by recording has groups, and a recording is of none.
    """
    split, clip_ids = corpus.split, tuple(dict.fromkeys(clip_ids))
    assert isinstance(split, SplitDescription)
    recording = recording_in(corpus) if split.by == "recording" else str
    test = _tested(split, clip_ids, recording, corpus.recordings.groups, fold)
    rest = [clip_id for clip_id in clip_ids if clip_id not in test]
    share = _train_share(split)
    if split.by == "clip":
        train, validation = split_clips(rest, share, seed)
    else:
        train, validation = split_recordings(rest, share, seed, recording, corpus.recordings.groups)
    return DividedClips(train, validation, tuple(c for c in clip_ids if c in test))


def _train_share(split: SplitDescription) -> float:
    """Share of the clips that are not tested on that is trained on."""
    tested = 1 / split.folds if split.folds else split.test
    if split.train is not None:
        return split.train if not tested else min(round(split.train / (1 - tested), 9), 1.0)
    # A share of all clips, except beside folds: there of those of the other folds.
    validated = split.validation or 0.0
    return round(1 - (validated if split.folds else validated / (1 - tested)), 9)


def _tested(
    split: SplitDescription,
    clip_ids: Sequence[str],
    recording: Callable[[str], str],
    groups: Sequence[str],
    fold: int,
) -> set[str]:
    """Clips of the test, which depend on neither the seed nor the order of the table."""
    if not split.folds and not split.test:
        return set()
    # Group by group, so that each has its share.
    members: dict[str, list[str]] = {}
    of_group = _groups_of(sorted(clip_ids), recording, groups if split.by == "recording" else ())
    for unit, group in of_group.items():
        members.setdefault(group, []).append(unit)
    generator = np.random.RandomState(TEST_SEED)
    chosen: set[str] = set()
    dealt = 0
    for _, units in sorted(members.items()):
        shuffled = sorted(units)
        generator.shuffle(shuffled)
        if split.folds:
            # Dealt out over the groups, so that folds differ by one recording at most.
            chosen.update(shuffled[(fold - 1 - dealt) % split.folds :: split.folds])
            dealt += len(shuffled)
        else:
            chosen.update(shuffled[: _tested_of(len(shuffled), split.test)])
    return {clip_id for clip_id in clip_ids if recording(clip_id) in chosen}


def _tested_of(n_units: int, share: float) -> int:
    """How many clips or recordings are tested on: one at least, but not all of them."""
    return min(max(round(share * n_units), 1), max(n_units - 1, 0))


def split_clips(
    clip_ids: Sequence[str], fraction: float, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split clips into training and validation as `pandas.DataFrame.sample` would.

    It samples the whole table, so missing clips do not change which others are held out.
    """
    n_clips = len(clip_ids)
    drawn = np.random.RandomState(seed).choice(n_clips, round(fraction * n_clips), replace=False)
    chosen = set(drawn.tolist())
    held_out = tuple(clip_id for row, clip_id in enumerate(clip_ids) if row not in chosen)
    return tuple(clip_ids[row] for row in drawn), held_out


def split_recordings(
    clip_ids: Iterable[str],
    fraction: float,
    seed: int,
    recording: Callable[[str], str],
    groups: Sequence[str] = (),
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split clips by recording into training clips and held-out clips.

    One `np.random.RandomState(seed)` shuffles the recordings group by group, starting from the
    order in which clips first name them. Of n recordings, the first `int(fraction * n)` are for
    training: none if n is 1. Clips of a recording may overlap, so after a split by clip, validation
    would use audio of the training clips.

    Args:
        clip_ids: in table order.
        fraction: share of each group's recordings used for training.
        seed: seed of the generator.
        recording: the recording of a clip.
        groups: beginnings of the names of each group's clips; none: all are of one.

    Returns:
        Training clips and held-out clips: group by group, each in table order.

    Raises:
        InputError: a recording's first clip has a name that begins like that of no group.
    """
    clip_ids = list(clip_ids)
    of_group = _groups_of(clip_ids, recording, groups)
    members: dict[str, list[str]] = {group: [] for group in groups or ("",)}
    for clip_id in clip_ids:
        members[of_group[recording(clip_id)]].append(clip_id)
    generator = np.random.RandomState(seed)
    train: list[str] = []
    held_out: list[str] = []
    for names in members.values():
        recordings = list(dict.fromkeys(map(recording, names)))
        generator.shuffle(recordings)
        trained_on = set(recordings[: int(fraction * len(recordings))])
        for name in names:
            (train if recording(name) in trained_on else held_out).append(name)
    return tuple(train), tuple(held_out)


def _groups_of(
    clip_ids: Iterable[str], recording: Callable[[str], str], groups: Sequence[str]
) -> dict[str, str]:
    """Recording -> group, that of its first clip, so that no recording is of two groups."""
    found: dict[str, str] = {}
    for clip_id in clip_ids:
        name = recording(clip_id)
        if name not in found:
            found[name] = group_of(last_part(clip_id), groups)
    return found


def recording_in(corpus: Corpus) -> Callable[[str], str]:
    """What gives the recording of a clip of a corpus."""
    if corpus.recordings.pattern is None:
        return _up_to_hyphen
    pattern = re.compile(corpus.recordings.pattern)

    def named(clip_id: str) -> str:
        match = pattern.search(clip_id)
        return clip_id if match is None else match[1]

    return named


def _up_to_hyphen(clip_id: str) -> str:
    """The part of a clip's name before the first hyphen.

    Without its folders: a recording whose clips lie in several is held out as one.
    """
    return last_part(clip_id).partition("-")[0]


def group_of(name: str, groups: Sequence[str]) -> str:
    """The group whose beginning a recording's or clip's name has; "" if there are no groups.

    Raises:
        InputError: the name begins like that of no group.
    """
    # Of groups that begin alike, the longest.
    for group in sorted(groups, key=len, reverse=True):
        if name.startswith(group):
            return group
    if not groups:
        return ""
    raise InputError(
        f"{name!r}: is of no group of recordings; begin it with one of {', '.join(groups)}"
    )
