"""Simulated annotators: votes follow what sounds, careful people count for more."""

from __future__ import annotations

import numpy as np
import pytest

from local.classes_dict import MAESTRO_SCORED_CLASSES
from local.prep.maestro_recordings import MAESTRO_VALIDATION_RECORDINGS
from local.prep.maestro_soft_labels import read_soft_labels
from local.prep.mini_corpus.annotators import (
    Annotator,
    _heard,
    _votes,
    competence,
    format_annotation,
    soft_labels,
    spread_windows,
)
from local.prep.mini_corpus.clip_plans import SCENE_CLASSES
from local.prep.mini_corpus.sets import MiniSizes, plan_recordings
from local.prep.mini_corpus.soundscapes import PlannedEvent

CLASSES = ("car", "footsteps", "birds_singing")
BOUTS = (PlannedEvent("car", 20.0, 32.0, 10.0), PlannedEvent("footsteps", 5.0, 12.0, 10.0))
PERFECT = Annotator(needs_s=3.0, sharpness_s=0.01, misses=0.0, invents=0.0)


def test_windows_hold_what_they_overlap():
    heard = _heard([PlannedEvent("car", 12.0, 18.0, 0.0)], CLASSES, 30)
    # Windows begin 9 s before the recording, one a second.
    assert heard.shape == (3, 39)
    start = {second: second + 9 for second in range(-9, 30)}
    assert heard[0, start[8]] == 6
    assert heard[0, start[12]] == 6
    assert heard[0, start[5]] == 3
    assert heard[0, start[2]] == 0
    assert heard[0, start[18]] == 0
    assert not heard[1:].any()


def test_a_perfect_annotator_ticks_what_lasts_long_enough():
    heard = np.array([[0.0, 2.9, 3.1, 6.0]])
    assert _votes(np.random.default_rng(0), PERFECT, heard).tolist() == [[False, False, True, True]]


def test_a_sound_too_short_for_anybody_is_noticed_where_it_is_fullest():
    heard = np.array([[0.0, 0.5, 1.0]])
    assert _votes(np.random.default_rng(0), PERFECT, heard).tolist() == [[False, False, True]]


def test_nobody_invents_all_the_time():
    careless = Annotator(needs_s=3.0, sharpness_s=0.5, misses=0.1, invents=0.03)
    votes = _votes(np.random.default_rng(0), careless, np.zeros((1, 5000)))
    assert 0.02 < votes.mean() < 0.04


def test_competence_grows_with_agreement():
    truth = np.random.default_rng(0).random((3, 400)) < 0.3
    votes = np.stack([truth, truth, truth, truth ^ (np.arange(400) % 5 == 0), ~truth])
    weight = competence(votes)
    assert weight.sum() == pytest.approx(1)
    assert weight[0] == weight[1] == weight[2] > weight[3] > weight[4] > 0


def test_competence_without_any_tick_is_even():
    assert competence(np.zeros((5, 3, 10), dtype=bool)).tolist() == pytest.approx([0.2] * 5)


def test_a_second_is_the_mean_of_its_windows():
    opinion = np.array([[0.0, 1.0, 1.0, 0.0, 0.0]])
    assert spread_windows(opinion, 2).tolist() == [[0.5, 1.0, 0.5, 0.0]]


def test_soft_labels_are_high_where_it_sounds_and_low_elsewhere():
    values = np.mean(
        [soft_labels(np.random.default_rng(s), BOUTS, CLASSES, 45.3) for s in range(20)], axis=0
    )
    assert values.shape == (3, 46)
    assert values.min() >= 0
    assert values.max() <= 1
    assert (values[0, 22:30] > 0.7).all()
    assert (values[0, 40:] < 0.3).all()
    assert (values[1, 6:11] > 0.6).all()
    assert (values[1, 20:] < 0.3).all()
    assert (values[2] < 0.1).all()
    # Softly so: there are values that are neither.
    assert ((values > 0.2) & (values < 0.8)).sum() > 5


def test_lines_are_maestro_s(tmp_path):
    values = np.array([[0.25, 0.0], [1.0, 0.004]])
    path = tmp_path / "a.txt"
    path.write_text(format_annotation(values, ("car", "people talking")))
    assert path.read_text() == "0\t1\tcar\t0.2500\n0\t1\tpeople talking\t1.0000\n"
    assert read_soft_labels(path).label == ("car", "people talking")


@pytest.mark.parametrize("sizes", [MiniSizes(), MiniSizes.small()], ids=["full", "small"])
def test_every_scored_class_can_be_scored(sizes):
    """In the validation recordings each has seconds above 0.5 and seconds below."""
    positive = dict.fromkeys(MAESTRO_SCORED_CLASSES, 0)
    negative = dict.fromkeys(MAESTRO_SCORED_CLASSES, 0)
    for recording in plan_recordings(sizes, 42):
        if recording.name not in MAESTRO_VALIDATION_RECORDINGS:
            continue
        classes = SCENE_CLASSES[recording.scene]
        rng = np.random.default_rng((*recording.plan.seed, 3))
        values = soft_labels(rng, recording.plan.events, classes, recording.plan.duration_s)
        for label in MAESTRO_SCORED_CLASSES:
            row = values[classes.index(label)] if label in classes else np.zeros(values.shape[1])
            positive[label] += int((row > 0.5).sum())
            negative[label] += int((row <= 0.5).sum())
    assert min(positive.values()) >= 3
    assert min(negative.values()) >= 10
