"""Weights of clips against corpora in which the clips are really repeated, metric by metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from desed_task.evaluation import clip_counts, fscores
from desed_task.evaluation import sed_scores_eval_metrics as package
from desed_task.evaluation.psds import PSDS1, PSDS2, psds_from_thresholds
from desed_task.evaluation.scores import Detections, Scores, detect
from desed_task.evaluation.segments import Segments, recording_segments
from desed_task.evaluation.weighted_metrics import count_deltas
from desed_task.labels import FrameGrid, Vocabulary

LABELS = ("Dog", "Cat", "Speech")
VOCABULARY = Vocabulary(LABELS)
GRID = FrameGrid()
N_CLIPS = 9
# In so short a corpus one false positive costs a large part of the usual range.
WIDE2 = replace(PSDS2, max_efpr=5000.0)
CLIP_S = np.linspace(8.0, 10.0, N_CLIPS)
THRESHOLDS = fscores.threshold_grid(20)
COLLARS = {"onset_collar_s": 1.0, "offset_collar_s": 1.0, "offset_collar_rate": 0.5}
NAMES = tuple(f"clip{number}" for number in range(N_CLIPS))


class Corpus:
    """Scores that follow the truth with noise, of given clips; a clip may be there often."""

    def __init__(self, picked):
        rng = np.random.default_rng(3)
        # One event a class and clip at most, in the grid; Cat in the last two clips only.
        onset = rng.integers(5, 60, (N_CLIPS, 3))
        length = rng.integers(10, 60, (N_CLIPS, 3))
        there = rng.random((N_CLIPS, 3)) < 0.7
        there[:-2, 1], there[-2:, 1] = False, True
        there[0] = False
        values = 0.4 * rng.random((N_CLIPS, 156, 3))
        for clip, label in zip(*np.nonzero(there), strict=True):
            shift = rng.integers(-6, 7)
            start = max(onset[clip, label] + shift, 0)
            values[clip, start : start + length[clip, label], label] += 0.5 * rng.random()
        self.names = tuple(f"{NAMES[clip]}_{copy}" for copy, clip in enumerate(picked))
        self.scores = Scores(self.names, values[picked], GRID.boundaries_s, VOCABULARY)
        self.durations = dict(zip(self.names, CLIP_S[picked], strict=True))
        rows = [
            (row, label, GRID.boundaries_s[onset[clip, label]], length[clip, label])
            for row, clip in enumerate(picked)
            for label in np.flatnonzero(there[clip])
        ]
        clip, label, onset_s, frames = (np.array(column) for column in zip(*rows, strict=True))
        self.truth = Detections(clip, label, onset_s, onset_s + frames * GRID.frame_s)

    @property
    def duration_s(self):
        return np.array(list(self.durations.values()))

    @property
    def points(self):
        return [detect(self.scores, threshold) for threshold in THRESHOLDS]

    @property
    def shape(self):
        return len(self.names), len(LABELS)

    def without_absent(self):
        """The same with the classes that occur only, as a test scores them."""
        present = np.unique(self.truth.label_index)
        labels = [LABELS[index] for index in present]
        self.scores = self.scores.select(labels=labels)
        self.truth = Detections(
            self.truth.clip_index,
            np.searchsorted(present, self.truth.label_index),
            self.truth.onset_s,
            self.truth.offset_s,
        )
        return self, labels

    def events(self, labels, every=False):
        found = {name: [] for name in self.names}
        for clip, label, onset_s, offset_s in zip(*vars(self.truth).values(), strict=True):
            found[self.names[clip]].append((float(onset_s), float(offset_s), labels[label]))
        return {name: events for name, events in found.items() if events or every}

    def frames(self, events):
        return package.as_frames(self.scores.select(list(events)))

    def pieces(self):
        """Scores of segments, as of recordings."""
        return {
            name: rows[:150].reshape(10, 15, -1).mean(axis=1)[: int(np.ceil(self.durations[name]))]
            for name, rows in zip(self.names, self.scores.values, strict=True)
        }

    def with_events(self):
        """Where there is an event, and the detections there, as sed_scores_eval counts them."""
        there = np.isin(np.arange(len(self.names)), self.truth.clip_index)
        half = detect(self.scores, 0.5)
        return there, half.rows(there[half.clip_index])


ROUNDED = {"decimals": fscores.SED_SCORES_EVAL_DECIMALS}


def weighted_metrics(corpus):
    half = detect(corpus.scores, 0.5)
    there, of_those = corpus.with_events()
    truth, shape, duration_s = corpus.truth, corpus.shape, corpus.duration_s
    segments = recording_segments(list(corpus.pieces().values()), truth, duration_s)
    return [
        *(
            clip_counts.psds_by_threshold(corpus.points, truth, 3, duration_s=duration_s, spec=spec)
            for spec in (PSDS1, PSDS2, WIDE2)
        ),
        *clip_counts.exact_psds_by_clip(
            corpus.scores,
            truth,
            duration_s=np.where(there, duration_s, 0.0),
            specs=[PSDS1, PSDS2, WIDE2],
        ),
        clip_counts.weighted_intersection_f1(half, truth, shape, dtc=0.5, gtc=0.5),
        clip_counts.weighted_collar_f1(half, truth, shape, **COLLARS),
        clip_counts.weighted_intersection_f1(of_those, truth, shape, dtc=0.5, gtc=0.5, **ROUNDED),
        clip_counts.weighted_collar_f1(of_those, truth, shape, **COLLARS, **ROUNDED),
        clip_counts.segments_by_unit(segments, len(corpus.names), max_fpr=0.1),
    ]


def plain_metrics(corpus):
    corpus, labels = corpus.without_absent()
    events = corpus.events(labels)
    frames = corpus.frames(events)
    half = detect(corpus.scores, 0.5)
    dataset_s = corpus.duration_s.sum()
    pieces = package.segment_frames(corpus.pieces(), corpus.durations, labels)
    segments = package.package_segment_scores(
        pieces, corpus.events(labels, every=True), corpus.durations, max_fpr=0.1
    )
    intersection = {"dtc": 0.5, "gtc": 0.5}
    return [
        *(
            psds_from_thresholds(
                corpus.points, corpus.truth, labels, dataset_s=dataset_s, spec=spec
            ).value
            for spec in (PSDS1, PSDS2, WIDE2)
        ),
        *(package.psds(frames, events, corpus.durations, s).value for s in (PSDS1, PSDS2, WIDE2)),
        fscores.intersection_fscore(half, corpus.truth, labels, **intersection)
        .as_psds_eval()
        .macro,
        fscores.collar_fscore(half, corpus.truth, labels, **COLLARS).macro,
        package.intersection_f1(frames, events, threshold=0.5, **intersection)[0],
        package.collar_f1(frames, events, threshold=0.5, **COLLARS)[0],
        segments.f1,
        segments.auc,
        segments.partial_auc,
    ]


def values_of(metrics, weights):
    return [value for metric in metrics for value in metric.values(np.asarray(weights, float))]


@pytest.fixture(scope="module")
def counted():
    return weighted_metrics(Corpus(np.arange(N_CLIPS)))


@pytest.mark.parametrize(
    "weights",
    [
        [1] * N_CLIPS,
        [2, 0, 1, 3, 0, 0, 1, 1, 1],
        [0, 1, 1, 1, 1, 1, 1, 2, 2],
        # Cat is in none of these.
        [1, 2, 1, 2, 1, 1, 1, 0, 0],
    ],
)
def test_weights_are_repetitions(counted, weights):
    repeated = Corpus(np.repeat(np.arange(N_CLIPS), weights))
    found = values_of(counted, weights)
    assert found == pytest.approx(plain_metrics(repeated), abs=1e-9)
    assert np.ptp(found) > 0.1, "an example in which everything is found shows nothing"


def test_resamples_by_chance_are_repetitions(counted):
    rng = np.random.default_rng(8)
    for weights in rng.multinomial(N_CLIPS, np.full(N_CLIPS, 1 / N_CLIPS), size=5):
        repeated = Corpus(np.repeat(np.arange(N_CLIPS), weights))
        assert values_of(counted, weights) == pytest.approx(plain_metrics(repeated), abs=1e-9)


def test_the_scale_of_weights_does_not_matter(counted):
    """Counts of a corpus twice over: every rate stays."""
    once = np.array([2, 0, 1, 3, 0, 0, 1, 1, 1])
    assert values_of(counted, 2 * once) == pytest.approx(values_of(counted, once), abs=1e-12)


def test_nothing_drawn_with_an_event_has_no_value(counted):
    weights = np.zeros(N_CLIPS)
    weights[0] = 5.0
    assert np.isnan(values_of(counted, weights)).all()


def test_one_class_alone_has_no_cross_triggers(counted):
    truth = Corpus(np.arange(N_CLIPS)).truth
    labels = [set(truth.label_index[truth.clip_index == clip]) for clip in range(N_CLIPS)]
    only_dog = np.array([float(of == {0}) for of in labels])
    assert only_dog.any()
    for psds2 in (counted[2], counted[5]):
        assert psds2.classes[0].amounts[2:].any(), "Dog triggers nothing in the example"
    repeated = Corpus(np.flatnonzero(only_dog))
    assert values_of(counted, only_dog) == pytest.approx(plain_metrics(repeated), abs=1e-9)


def test_classes_without_a_true_positive_leave_the_mean_of_psds_eval_s_f1():
    """Two clips: Dog is found in the first and missed in the second, Cat is always missed."""
    truth = Detections(
        np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([1.0, 5.0, 1.0]), np.array([2.0, 6, 2])
    )
    found = Detections(np.array([0, 1]), np.array([0, 1]), np.array([1.0, 8.0]), np.array([2.0, 9]))
    metric = clip_counts.weighted_intersection_f1(found, truth, (2, 2), dtc=0.5, gtc=0.5)
    collars = {"onset_collar_s": 0.2, "offset_collar_s": 0.2, "offset_collar_rate": 0.2}
    other = clip_counts.weighted_collar_f1(found, truth, (2, 2), **collars)
    for weights, f1_of_dog in (([1, 1], 2 / 3), ([3, 1], 6 / 7), ([1, 0], 1.0), ([0, 2], 0.0)):
        assert metric.values(np.array(weights, dtype=float)) == pytest.approx((f1_of_dog,))
        n_classes = 1 + bool(weights[0])  # the second clip has no true event of Cat
        values = other.values(np.array(weights, dtype=float))
        assert values == pytest.approx((f1_of_dog / n_classes,))
    assert np.isnan(metric.values(np.zeros(2))).all()


def test_a_class_active_in_every_segment_has_no_area():
    values, active = np.array([[0.9], [0.1]]), np.ones((2, 1), dtype=bool)
    segments = Segments(values, active, np.zeros(2, dtype=int))
    metric = clip_counts.segments_by_unit(segments, 1, max_fpr=0.1)
    f1, auc, partial = metric.values(np.ones(1))
    assert f1 == 1.0 and np.isnan([auc, partial]).all()


def test_changes_are_summed_by_falling_score():
    found = count_deltas(
        np.array([0.2, 0.9, 0.2, 0.5]),
        np.array([0, 1, 1, 0]),
        np.array([[1, 0], [0, 1], [2, 0], [0, 0]]),
    )
    # 0.5 changes nothing; both at 0.2 are one operating point.
    assert found.unit.tolist() == [1, 0, 1] and found.last.tolist() == [0, 2]
    assert found.at_points(np.array([10.0, 1.0])).tolist() == [[0, 12], [1, 1]]
    assert found.at_points(np.ones(2), np.array([[1.0, 5.0]])).tolist() == [[5, 8]]
    nothing = count_deltas(np.zeros(0), np.zeros(0, dtype=int), np.zeros((0, 2)))
    assert nothing.at_points(np.ones(2)).shape == (2, 0)
