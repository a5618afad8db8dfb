"""Tuning of tasks that score events alone, segments alone, or neither."""

from __future__ import annotations

from dataclasses import replace

import pytest

from desed_task.errors import InputError
from desed_task.postprocess.decoders import MEDIAN
from local.config import SHIPPED, load_config
from local.tuning.decoders.figures import MPAUC, figures_of
from local.tuning.decoders.fit import Fit, Method, fit_decoder
from local.tuning.decoders.parts import Part, split_folds
from local.tuning.decoders.stage import _check_events
from local.tuning.median_stage import parts_to_compare
from local.tuning.median_sweep import MedianFilterObjective, sweep_lengths
from tests.local.tuning.decoders.made_up_parts import TASK, made_up_part

MINI = SHIPPED / "mini.yaml"


def only(part: Part, *kinds: str) -> Part:
    """The part of a task that scores only these kinds."""
    chosen = [n for n, truth in enumerate(part.scores.truths) if truth.part.kind in kinds]
    scores = part.scores._replace(
        scores=tuple(part.scores.scores[n] for n in chosen),
        truths=tuple(part.scores.truths[n] for n in chosen),
    )
    return replace(part, scores=scores)


@pytest.mark.parametrize("kind", ["events", "segments"])
@pytest.mark.parametrize("name", ["held_out", "test"])
def test_the_objective_is_of_what_is_scored(kind, name):
    part = made_up_part(name, 3)
    whole, alone = (MedianFilterObjective(one.scores) for one in (part, only(part, kind)))
    lengths = [5] * len(whole.classes)
    both, one = whole(lengths), alone(lengths)
    expected = both.psds1 if kind == "events" else both.mpauc
    assert one.total == expected and [*one].count(None) == 1
    assert [*alone.facts(one).values()] == [expected]
    labels = alone.event_labels or alone.segment_labels
    candidates = dict.fromkeys((*whole.event_labels, *whole.segment_labels), (1, 3, 9))
    best = sweep_lengths(alone, lengths, candidates)
    assert alone(best).total >= one.total
    # Of the other kind's classes nothing is known, so that they keep theirs.
    changed = [label for label, n in zip(alone.classes, best, strict=True) if n != 5]
    assert {*changed} <= {*labels} and changed


def test_a_task_with_neither_has_nothing_to_tune():
    with pytest.raises(InputError, match="scores neither events nor segments in its tests"):
        MedianFilterObjective(only(made_up_part("test"), "tags").scores)
    no_test = replace(TASK, test=())
    with pytest.raises(InputError, match=r"--objective test: neither events nor segments are"):
        parts_to_compare(no_test, "test")
    with pytest.raises(
        InputError, match=r"no events are scored in the test of the task dcase2024, on"
    ):
        _check_events(no_test)


def test_without_a_test_only_the_objective_is_compared(capsys):
    assert parts_to_compare(replace(TASK, test=()), "held_out") == ("held_out",)
    assert (
        "test: neither events nor segments are scored there by the task dcase2024"
        in capsys.readouterr().out
    )
    assert parts_to_compare(TASK, "test") == ("held_out", "test")


def test_events_alone_are_compared_and_cross_fitted_without_a_figure_of_segments():
    part = only(made_up_part("test", 5), "events")
    config = load_config(MINI)
    method = Method(MEDIAN, config, {label: [1, 7] for label in ("Alarm_bell_ringing", "Cat")})
    fits = [(fit_decoder(fold.others, method), fold.scored) for fold in split_folds(part, 3)]
    found = figures_of(part, fits)
    assert MPAUC not in found.values and 0 < found.values["psds1"] < 1
    assert MPAUC not in figures_of(part, [(Fit(config, {}), part)]).values


def test_one_corpus_of_two_kinds_is_cut_once():
    part = made_up_part("test", 6)
    (scores, _), (events, segments) = part.scores.scores, part.scores.truths
    corpus = events.part.corpus
    twice = events._replace(part=segments.part._replace(corpus=corpus))
    both = replace(
        part, scores=part.scores._replace(scores=(scores, scores), truths=(events, twice))
    )
    for fold in split_folds(both, 4):
        first, second = (set(one.events.clip_ids) for one in fold.scored.scores.truths)
        assert first == second and not fold.scored.units & fold.others.units
