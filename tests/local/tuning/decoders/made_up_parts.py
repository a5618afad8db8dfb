"""Parts of made-up clips: scores that are the truth, blurred and noisy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from desed_task.dataio.annotations import EventTable
from desed_task.evaluation.scores import Scores
from local.classes_dict import DESED_CLASSES, MAESTRO_SCORED_CLASSES, VOCABULARY
from local.config import SHIPPED, load_config
from local.data.truth import Truth
from local.tuning.cached_scores import TeacherScores
from local.tuning.decoders.parts import Part

TASK = load_config(SHIPPED / "mini.yaml").detection_task
CLIP_S, HOP_S = 10.0, 0.1
# Names that sort in another order than they were made, not all of them ASCII.
CLIP_NAMES = ("Hündin {:02}", "b-{:02}", "a {:02}")
RECORDINGS = ("cafe_restaurant_00", "métro_05", "city_center_01", "grocery_store_09")


def table(clip_ids, rows, labels) -> EventTable:
    """Events of clips; `rows` are clip, label, onset and offset."""
    clip, label, onset_s, offset_s = zip(*rows, strict=True)
    return EventTable(
        tuple(clip_ids),
        np.array(clip, dtype=np.int64),
        np.array(onset_s),
        np.array(offset_s),
        np.array([VOCABULARY.index(labels[one]) for one in label]),
        np.ones(len(rows), dtype=np.float32),
        VOCABULARY,
    )


def blurred(events: EventTable, draws, dtype) -> Scores:
    boundaries_s = np.arange(round(CLIP_S / HOP_S) + 1) * HOP_S
    shape = (len(events.clip_ids), len(boundaries_s) - 1, len(VOCABULARY))
    values = draws.uniform(0, 0.35, shape)
    for row in range(len(events)):
        frames = slice(*np.searchsorted(boundaries_s, [events.onset_s[row], events.offset_s[row]]))
        one = values[events.clip_index[row], frames, events.label_index[row]]
        one += draws.uniform(0.0, 0.65, one.shape) * draws.uniform(0.3, 1)
    # Ties, too.
    return Scores(events.clip_ids, np.round(values, 2).astype(dtype), boundaries_s, VOCABULARY)


def made_up_part(name="test", seed=0, n_clips=22, n_classes=4, dtype=np.float32) -> Part:
    """A part in which only the first classes occur, and some clips have no event."""
    draws = np.random.default_rng(seed)
    found = []
    clip_ids = [CLIP_NAMES[n % 3].format(n) for n in range(n_clips)]
    labels, scored = DESED_CLASSES[:n_classes], MAESTRO_SCORED_CLASSES[:2]
    rows = []
    for clip in range(n_clips - 2):
        for label in draws.choice(n_classes, 2, replace=False).tolist():
            onset_s = draws.uniform(0, 6)
            rows.append((clip, label, onset_s, onset_s + draws.uniform(0.4, 3.5)))
    found.append(table(clip_ids, rows, labels))
    pieces = [f"{one}-{start}-{start + 1000}" for one in RECORDINGS for start in (0, 500)]
    rows = [
        (clip, label, 2.0 * (clip % 2) + 3 * label, 4.0 + 3 * label)
        for clip in range(len(pieces))
        for label in range(2)
        if (clip // 2 + label) % 4
    ]
    found.append(table(pieces, rows, scored))
    stage = "test" if name == "test" else "val"
    durations = dict.fromkeys(clip_ids, CLIP_S)
    of_recordings = (
        dict.fromkeys(RECORDINGS, 15.0) if stage == "test" else dict.fromkeys(pieces, CLIP_S)
    )
    truths = (
        Truth(TASK.part(stage, "events"), found[0], durations),
        Truth(TASK.part(stage, "segments"), found[1], of_recordings),
    )
    scores = tuple(blurred(events, draws, dtype) for events in found)
    return Part(name, TeacherScores(stage, scores, truths))


def with_permuted_labels(part: Part, clip_ids=None, seed=7) -> Part:
    """The part with other labels of its events, or of those of some clips and recordings only."""
    draws, truths = np.random.default_rng(seed), []
    for truth in part.scores.truths:
        events = truth.events
        own = np.ones(len(events), dtype=bool)
        if clip_ids is not None:
            names = [events.clip_ids[row] for row in events.clip_index]
            own = np.array([name in clip_ids for name in names])
        labels = events.label_index.copy()
        labels[own] = draws.permutation(labels[own])
        truths.append(truth._replace(events=replace(events, label_index=labels)))
    return replace(part, scores=part.scores._replace(truths=tuple(truths)))
