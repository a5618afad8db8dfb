"""Small test sets for error reports: truth, and scores of 0.9 where something is detected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from desed_task.dataio.annotations import EventTable
from desed_task.evaluation.scores import FrameScores, Scores
from desed_task.labels import FrameGrid
from local.classes_dict import VOCABULARY
from local.data.truth import Truth
from local.error_report.findings import FoundErrors, find_errors
from tests.published_task import DEVTEST, TASK

GRID = FrameGrid()
Event = tuple[str, str, float, float]  # clip, class, onset, offset


def truth_of(clip_ids: Sequence[str], events: Sequence[Event], **other: object) -> Truth:
    """The truth of clips, of 10 s unless `durations` says otherwise."""
    columns = list(zip(*events, strict=True)) or [(), (), (), ()]
    table = EventTable(
        tuple(clip_ids),
        np.array([clip_ids.index(clip) for clip in columns[0]], dtype=np.int64),
        np.array(columns[2], dtype=np.float64),
        np.array(columns[3], dtype=np.float64),
        np.array([VOCABULARY.index(label) for label in columns[1]], dtype=np.int64),
        np.ones(len(events), dtype=np.float32),
        VOCABULARY,
    )
    part = TASK.part("test", "events")
    return Truth(part, table, **{"durations": dict.fromkeys(clip_ids, 10.0), **other})


def scores_of(
    clip_ids: Sequence[str], events: Sequence[Event], long_s: Mapping[str, float] | None = None
) -> Scores:
    """Scores of 0.9 in events and 0.1 elsewhere; clips of `long_s` were scored in windows."""
    long_s = long_s or {}
    values, longer = [], []
    for clip in sorted(clip_ids, key=lambda clip: clip in long_s):
        n_frames = round(long_s.get(clip, 0) / GRID.frame_s) or GRID.n_frames
        found = np.full((n_frames, len(VOCABULARY)), 0.1, dtype=np.float32)
        for of, label, onset_s, offset_s in events:
            if of == clip:
                frames = slice(round(onset_s / GRID.frame_s), round(offset_s / GRID.frame_s))
                found[frames, VOCABULARY.index(label)] = 0.9
        if clip in long_s:
            longer.append(FrameScores(found, np.arange(n_frames + 1) * GRID.frame_s))
        else:
            values.append(found)
    shape = (-1, GRID.n_frames, len(VOCABULARY))
    return Scores(
        tuple(sorted(clip_ids, key=lambda clip: clip in long_s)),
        np.array(values, dtype=np.float32).reshape(shape),
        GRID.boundaries_s,
        VOCABULARY,
        tuple(longer),
    )


def errors_of(
    clip_ids: Sequence[str],
    truth: Sequence[Event],
    found: Sequence[Event],
    threshold: float | dict[str, float] = 0.5,
    long_s: Mapping[str, float] | None = None,
    **other: object,
) -> FoundErrors:
    """What is wrong if these events are annotated, and those detected."""
    scores, true = scores_of(clip_ids, found, long_s), truth_of(clip_ids, truth, **other)
    return find_errors(scores, true, DEVTEST.known, threshold, role="student")


def random_errors(seed: int, clip_ids: Sequence[str]) -> FoundErrors:
    """Some events, most of them found, and some that are not there."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(DEVTEST.known, 4, replace=False)

    def draw(clip: str) -> Event:
        onset_s, length_s = rng.uniform((0, 0.3), (8, 2)).round(2).tolist()
        return clip, str(rng.choice(labels)), onset_s, onset_s + length_s

    truth = [draw(clip) for clip in clip_ids for _ in range(rng.integers(0, 5))]
    moved = [(clip, label, on + 0.13, off + 0.4) for clip, label, on, off in truth[::2]]
    mistaken = [(clip, str(rng.choice(labels)), on, off) for clip, _, on, off in truth[1::2]]
    return errors_of(clip_ids, truth, [*moved, *mistaken, *map(draw, clip_ids[::2])])
