"""Labels of several annotators: weights, and rules that agree with frames however small."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from desed_task.dataio.annotations import EventTable
from desed_task.dataio.datasets import DrawnTargets
from desed_task.dataio.label_files.annotators import AnnotatedEvents, annotator_weights
from desed_task.labels import FrameGrid, Vocabulary

VOCABULARY = Vocabulary(["dog", "cat"])
GRID = FrameGrid()


def annotated(rows, looked, names=("A", "B", "C")):
    """Of rows (clip, annotator, onset, offset, class)."""
    clips = tuple(looked)
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    clip, who, onset_s, offset_s, label = columns or [np.empty(0)] * 5
    table = EventTable(
        clips,
        clip.astype(np.int64),
        onset_s.astype(float),
        offset_s.astype(float),
        label.astype(np.int64),
        np.ones(len(rows), dtype=np.float32),
        VOCABULARY,
    )
    return AnnotatedEvents(table, who.astype(np.int64), looked, names)


def drawn(seed, n_clips=3, n_annotators=3):
    random = np.random.default_rng(seed)
    looked = {
        f"clip {c}": tuple(sorted(random.permutation(n_annotators)[: random.integers(1, 4)]))
        for c in range(n_clips)
    }
    rows = []
    for clip, who in enumerate(looked.values()):
        for one, _ in itertools.product(who, range(random.integers(0, 5))):
            first, last = sorted(random.integers(0, 20, 2).tolist())
            rows.append((clip, one, first / 2, last / 2 + 0.5, int(random.integers(2))))
    return annotated(rows, looked)


def by_frames(events, rule, weights):
    """(clip, class, half second) of the rule, counted frame by frame."""
    n_clips, n_names = len(events.table.clip_ids), len(events.names)
    active = np.zeros((n_clips, n_names, 2, 21))
    table = events.table
    for row, who in enumerate(events.annotator):
        first, last = (round(2 * float(at[row])) for at in (table.onset_s, table.offset_s))
        active[table.clip_index[row], who, table.label_index[row], first:last] = 1
    found = np.zeros((n_clips, 2, 21))
    for clip, who in enumerate(events.looked.values()):
        share = np.average(active[clip, list(who)], axis=0, weights=weights[list(who)])
        found[clip] = {
            "mean": share,
            "weighted": share,
            "union": share > 0,
            "intersection": share > 1 - 1e-9,
            "majority": share > 0.5 - 1e-9,
        }[rule]
    return found


@pytest.mark.parametrize("rule", ["mean", "weighted", "majority", "union", "intersection"])
@pytest.mark.parametrize("seed", range(6))
def test_rules_are_those_of_frames(rule, seed):
    events = drawn(seed)
    weights = annotator_weights(events) if rule == "weighted" else np.ones(3)
    table = events.aggregated(rule)
    assert table.clip_ids == events.table.clip_ids
    found = np.zeros((3, 2, 21))
    for row in range(len(table)):
        first, last = (round(2 * float(at[row])) for at in (table.onset_s, table.offset_s))
        part = found[table.clip_index[row], table.label_index[row], first:last]
        assert first < last and not part.any()  # pieces of a class never overlap
        part[:] = table.confidence[row]
    np.testing.assert_allclose(found, by_frames(events, rule, weights), atol=1e-6)
    empty = {c for c, of in zip(table.clip_ids, found, strict=True) if not of.any()}
    assert table.eventless == empty


def test_weights_follow_the_agreement_with_others():
    """A and B agree on everything; C on nothing in one clip, and shares no other."""
    rows = [(clip, who, 1.0, 3.0, 0) for clip in range(2) for who in (0, 1)]
    events = annotated([*rows, (1, 2, 5.0, 6.0, 1)], {"a": (0, 1), "b": (0, 1, 2)})
    # r of A and B: 1 with each other, 0 with C (two classes, neither shared).
    own = np.array([(1 + 0.5) / 2, (1 + 0.5) / 2, 0.0])
    mean = own.mean()
    n_clips = np.array([2, 2, 1])
    score = (n_clips * own + 5 * mean) / (n_clips + 5)
    weights = annotator_weights(events)
    np.testing.assert_allclose(weights, (score / score.max()) ** 16)
    table = events.aggregated("weighted")
    share = weights / weights.sum()
    found = {
        (table.clip_index[row], table.label_index[row]): table.confidence[row]
        for row in range(len(table))
    }
    assert found == {
        (0, 0): pytest.approx(1.0),
        (1, 0): pytest.approx(share[0] + share[1]),
        (1, 1): pytest.approx(share[2]),
    }


def test_weights_of_annotators_who_share_nothing_are_alike():
    events = annotated([(0, 0, 0, 1, 0), (1, 1, 0, 1, 1)], {"a": (0,), "b": (1,)}, ("A", "B"))
    assert annotator_weights(events).tolist() == [1.0, 1.0]
    assert events.aggregated("weighted").confidence.tolist() == [1.0, 1.0]


def test_both_having_heard_nothing_is_agreement():
    silent = annotated([(0, 0, 0, 1, 0)], {"a": (0, 1), "b": (0, 1)}, ("A", "B"))
    heard = annotated([(0, 0, 0, 1, 0), (1, 1, 0, 1, 0)], {"a": (0, 1), "b": (0, 1)}, ("A", "B"))
    assert annotator_weights(silent).tolist() == annotator_weights(heard).tolist() == [1.0, 1.0]


def test_the_drawn_annotator_depends_on_seed_epoch_and_clip_alone():
    looked = {"a": (0, 1, 2), "ü/b": (0, 1), "nobody": ()}
    rows = [(0, who, float(who), who + 1.0, 0) for who in range(3)]
    events = annotated([*rows, (1, 0, 0, 1, 1), (1, 1, 2, 3, 1)], looked)
    names = ["nobody", "ü/b", "a"]
    table, spans = events.alternatives(names)
    targets = DrawnTargets(table, spans, names, GRID)
    assert not targets.target(0, 0.0, (1, 2, 3)).any()
    of = {epoch: targets.target(2, 0.0, (7, epoch, 0)).argmax(axis=1)[0] for epoch in range(24)}
    assert set(of.values()) == {0, 15, 31}  # each annotator's onset
    for epoch, first in of.items():
        assert targets.target(2, 0.0, (7, epoch, 99)).argmax(axis=1)[0] == first
        # A later window of the clip has the labels of the same annotator.
        later = targets.target(2, 0.5, (7, epoch, 5))
        assert later[0].any() and later.argmax(axis=1)[0] == max(round(first - 0.5 / 0.064), 0)
    others = [targets.target(2, 0.0, (8, epoch, 0)).argmax(axis=1)[0] for epoch in range(24)]
    assert others != list(of.values())
