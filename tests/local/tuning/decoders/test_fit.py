"""Candidates, their ascent and thresholds: equal to what a decoder and a search by hand give."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from desed_task.errors import InputError
from desed_task.evaluation.exact_psds import exact_psds
from desed_task.evaluation.fscores import collar_fscore, intersection_fscore
from desed_task.evaluation.psds import PSDS1
from desed_task.evaluation.scores import as_detections, detect
from desed_task.postprocess.decoders import BOXES, KINDS, MEDIAN, THRESHOLD_BOXES
from desed_task.postprocess.event_boxes import BoxSettings
from local.classes_dict import DESED_CLASSES
from local.config import check_config, load_config
from local.scoring.metrics import event_part
from local.scoring.own.criteria import COLLAR, INTERSECTION
from local.tuning.decoders import objective
from local.tuning.decoders.ascent import best_candidates
from local.tuning.decoders.candidates import (
    candidates_of,
    class_decoder,
    decoded_events,
    name_of,
    overrides_of,
    own_candidates,
)
from local.tuning.decoders.curve_cache import CurveCache
from local.tuning.decoders.figures import figures_of
from local.tuning.decoders.fit import Method, best_thresholds, fit_decoder
from local.tuning.decoders.objective import DecoderObjective
from local.tuning.decoders.parts import joined_clips, split_folds
from local.tuning.search_space import DEFAULT_FILE, Dimension, Space, replace_values
from tests.local.tuning.decoders.made_up_parts import made_up_part, with_permuted_labels

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def config():
    return load_config(ROOT / "confs" / "mini.yaml", ["net.median_filter=" + str([5] * 27)])


def grid_of(kind, config):
    return candidates_of(kind, Space.load(DEFAULT_FILE, "postprocessing", kind), config)


def test_the_grid_of_boxes_has_18_settings_of_each_class(config):
    grid = grid_of(BOXES, config)
    assert tuple(grid) == DESED_CLASSES
    of_class = grid["Speech"]
    assert len(set(of_class)) == len(of_class) == 18
    assert {one.step_filter_s for one in of_class} == {0.32, 0.48, 0.64}
    assert all((one.merge_abs is None) != (one.merge_rel is None) for one in of_class)
    assert {len(of) for of in grid_of(THRESHOLD_BOXES, config).values()} == {9}
    assert {len(of) for of in grid_of(MEDIAN, config).values()} == {10}


def test_a_finer_grid_comes_from_the_space(config):
    space = Space(
        (
            Dimension("decoder.step_filter_s.Dog", "float", 0.38, 0.66, 0.04),
            Dimension("decoder.merge_rel.Dog", "float", 1.5, 3.25, 0.25),
            Dimension("decoder.merge_abs.Dog", "float", 0.15, 0.325, 0.025),
            Dimension("decoder.step_filter_s.Cat", "categorical", choices=(0.3,)),
        )
    )
    grid = candidates_of(BOXES, space, config)
    assert len(grid["Dog"]) == 8 * (8 + 8)
    assert BoxSettings(0.5, None, 2.25) in grid["Dog"]
    # What the space does not name is as it was.
    assert grid["Cat"] == [BoxSettings(0.3, None, 2.0)]
    endless = Space((Dimension("decoder.threshold.Dog", "float", 0.1, 0.9),))
    with pytest.raises(InputError, match=r"decoder.threshold.Dog: has no step"):
        candidates_of(THRESHOLD_BOXES, endless, config)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_alone_is_decoded_as_by_the_configuration(kind, config):
    """What the objective decodes class by class, best.yaml decodes at once, to the last bit."""
    part, draws = made_up_part(seed=1), np.random.default_rng(3)
    grid = grid_of(kind, config)
    chosen = {label: of[draws.integers(len(of))] for label, of in grid.items()
              if label in DESED_CLASSES}  # fmt: skip
    lengths = list(config.net.median_filter)
    if kind == MEDIAN:
        lengths[: len(chosen)] = chosen.values()
    tree = replace_values(overrides_of(kind, config, chosen, lengths), config.dump())
    tuned = check_config(tree, "")
    assert own_candidates(kind, tuned) == chosen
    objective = DecoderObjective(part.scores, class_decoder(kind, config))
    whole = decoded_events(tuned, part.events[0])
    both = tuned.score_decoder()(part.events[0])
    truth = part.scores.truths[0]
    for decoded in (whole, both):
        found = event_part(decoded, truth)
        scores = found.scores.select(found.with_events)
        true = as_detections(found.events.select(scores.clip_ids), scores.vocabulary)
        seconds = sum(truth.durations[one] for one in scores.clip_ids)
        psds = exact_psds(scores, true, dataset_s=seconds, spec=PSDS1)
        assert objective.psds1({one: chosen[one] for one in objective.event_labels}) == psds.value


@pytest.mark.parametrize("kind", KINDS)
def test_the_ascent_finds_the_best_of_all_combinations(kind, config):
    objective = DecoderObjective(
        made_up_part(seed=2, n_classes=3).scores, class_decoder(kind, config)
    )
    grid = {label: of[::4] for label, of in grid_of(kind, config).items()}
    own = own_candidates(kind, config)
    best = best_candidates(objective, own, grid, most_starts=3)
    labels = objective.event_labels
    values = [
        objective.psds1(dict(zip(labels, of, strict=True)))
        for of in itertools.product(*((own[label], *grid[label]) for label in labels))
    ]
    assert set(best) == set(labels)
    assert objective.psds1(best) == pytest.approx(max(values), abs=1e-12)
    assert max(values) > objective.psds1({label: own[label] for label in labels})


@pytest.mark.parametrize("kind", [MEDIAN, BOXES])
@pytest.mark.parametrize("metric", ["collar", "intersection"])
def test_thresholds_are_the_best_of_all(kind, metric, config):
    part = made_up_part(seed=4, n_clips=15)
    tree = config.dump()
    tree["decoder"]["kind"] = kind
    own = check_config(tree, "")
    decoded = decoded_events(own, part.events[0])
    limits = best_thresholds(part, decoded, Method(kind, own, {}, metric))
    truth = part.scores.truths[0]
    found = event_part(decoded, truth)
    scores = found.scores.select(found.with_events)
    labels = scores.vocabulary.labels
    true = as_detections(found.events.select(scores.clip_ids), scores.vocabulary)

    def f1(limit):
        events = detect(scores, limit)
        if metric == "collar":
            return collar_fscore(events, true, labels, **COLLAR, decimals=6)
        return intersection_fscore(events, true, labels, **INTERSECTION, decimals=6)

    levels = np.unique(scores.confidence if kind == BOXES else scores.values)
    levels = np.concatenate([[0.0], levels[levels > 0].astype(np.float64)])
    tried = [f1(limit).per_class for limit in (levels[1:] + levels[:-1]) / 2]
    values = f1(np.array([limits.get(label, 0.5) for label in labels])).per_class
    assert limits
    for label in labels:
        best = max(one[label] for one in tried)
        assert (best > 0) == (label in limits)
        if best:
            assert values[label] == pytest.approx(best, abs=1e-12)
            assert 0 <= limits[label] < 1


def test_thresholds_lie_between_scores_and_not_below_0(config):
    part = made_up_part(seed=5, n_clips=4, n_classes=2)
    whole = Method(BOXES, config, {}, "intersection")
    silent = part.events[0].map(np.zeros_like)
    assert best_thresholds(part, decoded_events(config, silent), whole) == {}
    loud = part.events[0].map(np.ones_like)
    limits = best_thresholds(part, decoded_events(config, loud), whole)
    assert all(0 <= limit < 1 for limit in limits.values())


@pytest.mark.parametrize("kind", KINDS)
def test_figures_of_folds_decoded_alike_are_those_of_the_whole(kind, config):
    part = made_up_part(seed=6)
    tree = config.dump()
    tree["decoder"]["kind"] = kind
    one = fit_decoder(part, Method(kind, check_config(tree, ""), {}, "collar"))
    whole = figures_of(part, [(one, part)])
    folds = split_folds(part, 4)
    pieces = figures_of(part, [(one, fold.scored) for fold in folds])
    assert pieces.values == pytest.approx(whole.values, abs=1e-12, nan_ok=True)
    assert (kind == THRESHOLD_BOXES or whole.values["psds1"] > 0) and 0 < whole.values["mpauc"] <= 1
    ones = np.ones(len(whole.clip_ids))
    assert whole.metrics["psds1"].values(ones)[0] == pytest.approx(whole.values["psds1"], abs=1e-9)
    assert set(whole.clip_ids) == set(pieces.clip_ids)


def test_boxes_of_pieces_are_joined_in_order(config):
    part = made_up_part(seed=7, n_clips=5)
    tree = config.dump()
    tree["decoder"]["kind"] = BOXES
    own = check_config(tree, "")
    whole = decoded_events(own, part.events[0])
    ids = whole.clip_ids
    again = joined_clips([whole.select(ids[3:]), whole.select(ids[:3])]).select(ids)
    for clip_id in ids:
        assert np.array_equal(again.of(clip_id).values, whole.of(clip_id).values)
    assert np.array_equal(again.end_s, whole.end_s)


def test_candidates_in_few_words():
    assert name_of(BoxSettings(0.32, 0.15, None)) == "0.32 s, abs 0.15"
    assert name_of(BoxSettings(0.5, None, None)) == "0.5 s, unmerged"
    assert name_of(BoxSettings(0.5, 0.2, 2.0)) == "0.5 s, abs 0.2 and rel 2"
    assert name_of(7) == "7" and name_of(0.1) == "0.1"


@pytest.mark.parametrize("kind", KINDS)
def test_curves_are_kept_by_what_they_are_of(kind, config, tmp_path, monkeypatch):
    part = made_up_part(seed=8, n_clips=8)
    grid = {label: of[:3] for label, of in grid_of(kind, config).items()}

    def tuned(part, settings=None):
        cache = CurveCache(tmp_path, kind, settings)
        found = fit_decoder(part, Method(kind, config, grid, None, cache))
        cache.tidy()
        return found

    first = tuned(part)
    (kept,) = tmp_path.iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(objective, "exact_psds", None)
        assert tuned(part).chosen == first.chosen
        # Other labels, other settings: nothing is known.
        for other in ((with_permuted_labels(part), None), (part, "other")):
            with pytest.raises(TypeError):
                tuned(*other)
    kept.write_bytes(kept.read_bytes()[:200])
    assert tuned(part).chosen == first.chosen
    tuned(with_permuted_labels(part))
    assert len(list(tmp_path.iterdir())) == 1
