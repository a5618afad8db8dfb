"""Parameters never come from the clips that are scored, whatever their labels are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from desed_task.errors import InputError
from desed_task.postprocess.decoders import BOXES, KINDS, MEDIAN
from local.classes_dict import DESED_CLASSES
from local.config import load_config
from local.tuning.decoders.candidates import candidates_of
from local.tuning.decoders.comparison import CROSS_FITTED, HELD_OUT, ORACLE, rows_of
from local.tuning.decoders.fit import Method, fit_decoder
from local.tuning.decoders.parts import Part, split_folds
from local.tuning.search_space import DEFAULT_FILE, Space
from tests.local.tuning.decoders.made_up_parts import (
    RECORDINGS,
    made_up_part,
    with_permuted_labels,
)

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def config():
    return load_config(ROOT / "confs" / "mini.yaml")


@pytest.fixture(scope="module")
def methods(config):
    found = {}
    for kind in KINDS:
        space = Space.load(DEFAULT_FILE, "postprocessing", kind)
        tree = config.dump()
        tree["decoder"]["kind"] = kind
        own = type(config).model_validate(tree)
        found[kind] = Method(kind, own, candidates_of(kind, space, own), "collar")
    return found


class Bar:
    """A progress that is not shown."""

    def update(self, n=1):
        pass

    def set_description(self, title):
        pass


def parameters(found):
    return found.chosen, found.thresholds, found.config.net.median_filter


def permuted_clips(part: Part) -> set[str]:
    return {clip_id for truth in part.scores.truths for clip_id in truth.events.clip_ids}


def in_folder(part: Part, folder: str) -> Part:
    """The part with the clips of its events in a folder."""
    events, *others = part.scores.truths
    corpus = replace(events.part.corpus, folder=folder)
    truths = (events._replace(part=events.part._replace(corpus=corpus)), *others)
    return replace(part, scores=part.scores._replace(truths=truths))


@pytest.mark.parametrize("kind", KINDS)
def test_other_labels_of_the_scored_clips_change_no_parameter(kind, methods):
    method = methods[kind]
    held_out, devtest = made_up_part("held_out", 1), made_up_part("test", 2)
    other = with_permuted_labels(devtest)
    rows, others = (
        list(rows_of(method, fit_decoder(held_out, method), part, split_folds(part, 3),
                     fit_decoder(part, method), Bar()))
        for part in (devtest, other)
    )  # fmt: skip
    assert [row.tuned for row in rows] == [HELD_OUT, CROSS_FITTED, ORACLE]
    # The labels matter where they are seen, and to the figures.
    assert parameters(rows[0].fits[0]) == parameters(others[0].fits[0])
    assert parameters(rows[2].fits[0]) != parameters(others[2].fits[0])
    assert rows[0].figures.values != others[0].figures.values


@pytest.mark.parametrize("kind", KINDS)
def test_other_labels_of_a_fold_do_not_change_its_parameters(kind, methods):
    method, devtest = methods[kind], made_up_part("test", 3)
    folds = split_folds(devtest, 3)
    before = [parameters(fit_decoder(fold.others, method)) for fold in folds]
    changed = 0
    for number, fold in enumerate(folds):
        other = with_permuted_labels(devtest, permuted_clips(fold.scored))
        again = split_folds(other, 3)
        assert parameters(fit_decoder(again[number].others, method)) == before[number]
        if number == 0:
            rest = [parameters(fit_decoder(one.others, method)) for one in again[1:]]
            changed += rest != before[1:]
    assert changed  # of other folds


def test_a_fold_contains_nothing_of_the_others_clips():
    devtest = made_up_part("test", 4, n_clips=23)
    folds = split_folds(devtest, 5)
    sizes = [len(fold.scored.events[0].clip_ids) for fold in folds]
    assert sorted(sizes) == [4, 4, 5, 5, 5]
    for fold in folds:
        assert not fold.scored.units & fold.others.units
        assert fold.scored.units | fold.others.units == devtest.units
        for part in (fold.scored, fold.others):
            desed, maestro = part.scores.truths
            own = set(desed.events.clip_ids)
            assert set(part.events[0].clip_ids) == own == set(desed.durations)
            assert set(part.scores.of("segments")[0].clip_ids) == set(maestro.events.clip_ids)
            assert set(desed.left_out) | set(maestro.left_out) == set()
        # Whole recordings, though their clips overlap.
        recordings = {c.rpartition("-")[0].rpartition("-")[0] for c in
                      fold.scored.scores.of("segments")[0].clip_ids}  # fmt: skip
        assert set(fold.scored.scores.truths[1].durations) == recordings
    assert {len(fold.others.scores.truths[1].durations) for fold in folds} == {3, 4}
    assert len(RECORDINGS) == 4


def test_folds_are_those_of_the_sorted_names_shuffled_by_seed_0():
    devtest = made_up_part("test", 4, n_clips=12)
    names = sorted(devtest.events[0].clip_ids)
    np.random.RandomState(0).shuffle(names)
    pieces = [set(piece.tolist()) for piece in np.array_split(np.array(names), 5)]
    found = [set(fold.scored.events[0].clip_ids) for fold in split_folds(devtest, 5)]
    assert found == pieces


@pytest.mark.parametrize(("n_folds", "told"), [(1, "give 2 or more"), (13, "only 12 clips")])
def test_folds_that_cannot_be_made(n_folds, told):
    with pytest.raises(InputError, match=told):
        split_folds(made_up_part("test", 4, n_clips=12), n_folds)


def test_a_fold_with_all_events_has_no_parameters():
    part = made_up_part("test", 4, n_clips=4)
    desed, maestro = part.scores.truths
    one = desed.events.rows(desed.events.clip_index == 2)
    truths = desed._replace(events=one), maestro
    with pytest.raises(InputError, match="--folds 2: all events of DESED dev-test are in fold"):
        split_folds(replace(part, scores=part.scores._replace(truths=truths)), 2)


def test_a_fit_to_scored_clips_is_an_oracle_s_whatever_it_is_called(methods):
    method, devtest = methods[BOXES], made_up_part("test", 5)
    cheating = fit_decoder(devtest, method)
    first, *_ = rows_of(method, cheating, devtest, (), cheating, Bar())
    assert first.tuned == ORACLE
    # Clips of the same names in another set are other clips.
    held_out = made_up_part("held_out", 5)
    assert not fit_decoder(held_out, method).is_oracle(devtest)
    # But not if both sets have the audio of one folder.
    one, other = (in_folder(part, "audio/validation") for part in (held_out, devtest))
    assert fit_decoder(one, method).is_oracle(other)
    assert not fit_decoder(one, method).is_oracle(in_folder(devtest, "audio/other"))


def test_a_class_without_an_event_keeps_its_values_and_is_named(methods, config):
    method = methods[BOXES]
    found = fit_decoder(made_up_part("held_out", 6, n_classes=2), method)
    absent = DESED_CLASSES[2:]
    assert any(", ".join(absent) in note and "decoder" in note for note in found.notes)
    default = config.decoder.settings.of_boxes(DESED_CLASSES)[0]
    assert all(found.chosen[label] == default for label in absent)
    assert all(found.thresholds[label] == 0.5 for label in absent)
    assert any("threshold stays as it was" in note for note in found.notes)
    median = fit_decoder(made_up_part("held_out", 6), methods[MEDIAN])
    assert median.config.net.median_filter[2] in range(1, 20)
