"""Fit a decoder and thresholds to a part of the data; nothing else is seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from desed_task.errors import InputError
from desed_task.evaluation.boxes import Boxes, Decoded
from desed_task.evaluation.curves.collars import Collars, collar_changes
from desed_task.evaluation.curves.precision_recall import best_f1, intersection_criteria, points_of
from desed_task.evaluation.exact_psds import Changes, changes_of, found_of_classes
from desed_task.evaluation.scores import as_detections
from desed_task.postprocess import class_thresholds
from desed_task.postprocess.decoders import MEDIAN
from local.config import RecipeConfig, check_config
from local.scoring.metrics import event_part
from local.scoring.own.criteria import COLLAR, INTERSECTION
from local.tuning.cached_scores import TeacherScores
from local.tuning.decoders.ascent import best_candidates
from local.tuning.decoders.candidates import (
    Candidates,
    class_decoder,
    decoded_events,
    length_of_classes,
    overrides_of,
    own_candidates,
)
from local.tuning.decoders.curve_cache import CurveCache
from local.tuning.decoders.objective import DecoderObjective
from local.tuning.decoders.parts import Part, Unit
from local.tuning.median_sweep import best_segment_lengths
from local.tuning.search.lines import event_classes
from local.tuning.search_space import replace_values

# Starts of an ascent; more hardly find anything better.
MOST_STARTS: Final = 20
ThresholdMetric = Literal["collar", "intersection"]


@dataclass(frozen=True)
class Method:
    """How a decoder is tuned.

    Attributes:
        kind: the decoder.
        config: gives what is not tuned: the values of the checkpoint.
        candidates: class -> what is tried; empty to keep the configuration's own.
        threshold_metric: F1 that the thresholds are tuned for; None leaves them alone.
        cache: keeps curves; None for none.
    """

    kind: str
    config: RecipeConfig
    candidates: Candidates
    threshold_metric: ThresholdMetric | None = None
    cache: CurveCache | None = None

    def objective(self, part: TeacherScores) -> DecoderObjective:
        """The objective on a part."""
        known = {} if self.cache is None else self.cache.read(part)
        return DecoderObjective(part, class_decoder(self.kind, self.config), known)

    def keep(self, objective: DecoderObjective) -> None:
        """Keep the curves of an objective, if any is new."""
        if self.cache is not None and objective.n_computed:
            self.cache.write(objective.part, objective.curves)


@dataclass(frozen=True)
class Fit:
    """The result of tuning on a part.

    Attributes:
        config: decodes with it.
        chosen: class whose events are scored -> candidate.
        thresholds: class whose events are scored -> threshold; empty if they are not tuned.
        units: what it was tuned on; empty for values that were not tuned.
        notes: classes that keep what they had, and why.
    """

    config: RecipeConfig
    chosen: Mapping[str, Any]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    units: frozenset[Unit] = frozenset()
    notes: tuple[str, ...] = ()

    def is_oracle(self, part: Part) -> bool:
        """Whether it was tuned on clips of a part."""
        return bool(self.units & part.units)


def fit_decoder(part: Part, method: Method) -> Fit:
    """Tune a decoder, then thresholds, on a part.

    Raises:
        InputError: if no class has an event in it.
    """
    own = own_candidates(method.kind, method.config)
    chosen, lengths, notes = dict(own), list(method.config.net.median_filter), []
    if method.candidates:
        objective = method.objective(part.scores)
        found = best_candidates(objective, own, method.candidates, most_starts=MOST_STARTS)
        chosen.update(found)
        if objective.absent_labels:
            notes.append(_kept("decoder", objective.absent_labels))
        if method.kind == MEDIAN:
            lengths, told = _lengths(objective, chosen, method)
            notes += told
        method.keep(objective)
    return fit_thresholds(part, configured(method, chosen, lengths), chosen, method, notes)


def _lengths(
    objective: DecoderObjective, chosen: Mapping[str, Any], method: Method
) -> tuple[list[int], list[str]]:
    """Lengths of all classes; those that are scored in segments only are tuned too."""
    of: dict[str, Any] = {**length_of_classes(method.config), **chosen}
    notes = []
    segments = objective.part.of("segments")
    try:
        found = best_segment_lengths(objective, of, method.candidates)
        of.update({label: length for label, length in found.items() if label not in chosen})
        scored = () if segments is None else segments[1].part.classes
        absent = [one for one in scored if one not in objective.segment_labels]
        tuned = [one for one in absent if one in method.candidates and one not in chosen]
        notes += [_kept("median filter", tuned)] if tuned else []
    except InputError as error:
        notes.append(
            f"the median filters of classes that are scored in segments stay as they were: {error}"
        )
    return list(of.values()), notes


def _kept(what: str, labels: Any) -> str:
    return f"without an event, so that their {what} stays as it was: {', '.join(labels)}"


def configured(method: Method, chosen: Mapping[str, Any], lengths: list[int]) -> RecipeConfig:
    """The method's configuration with these values."""
    overrides = overrides_of(method.kind, method.config, chosen, lengths)
    return check_config(replace_values(overrides, method.config.dump()), "tuned values")


def fit_thresholds(
    part: Part,
    config: RecipeConfig,
    chosen: Mapping[str, Any],
    method: Method,
    notes: list[str] | None = None,
) -> Fit:
    """Complete a fit to a part by the thresholds, if the method tunes them."""
    told = list(notes or [])
    thresholds: dict[str, float] = {}
    if method.threshold_metric is not None:
        found = best_thresholds(part, decoded_events(config, part.events[0]), method)
        thresholds = {label: found.get(label, own) for label, own in own_thresholds(config).items()}
        lost = [label for label in thresholds if label not in found]
        if lost:
            told.append(
                "without an event that any threshold finds, so that their threshold stays as it "
                f"was: {', '.join(lost)}"
            )
    units = part.units if method.candidates or thresholds else frozenset()
    return Fit(config, dict(chosen), thresholds, units, tuple(told))


def own_thresholds(config: RecipeConfig) -> dict[str, float]:
    """Class whose events are scored -> threshold of a configuration."""
    given, classes = config.predict.threshold, event_classes(config.detection_task)
    if isinstance(given, dict):
        given = {label: one for label, one in given.items() if label in classes}
    limits = class_thresholds(given, classes)
    return dict(zip(classes, limits.tolist(), strict=True))


def best_thresholds(part: Part, decoded: Decoded, method: Method) -> dict[str, float]:
    """Class -> the threshold of its highest F1, midway between two scores.

    Of thresholds with the same F1 the highest one counts. Classes without an event that any
    threshold finds are left out.

    Args:
        part: gives the truth; clips without events are left out, as in the figures.
        decoded: what its scores are decoded to.
        method: names the F1.
    """
    chosen = event_part(decoded, part.truth)
    scores: Decoded = chosen.scores.select(chosen.with_events)
    true = as_detections(chosen.events.select(scores.clip_ids), scores.vocabulary)
    n_true = np.bincount(true.label_index, minlength=len(scores.vocabulary)).tolist()
    collars, criteria = Collars(**COLLAR), intersection_criteria(**INTERSECTION)
    by_collar = method.threshold_metric == "collar"
    limits = {}
    for label, number, found in zip(
        scores.vocabulary, n_true, found_of_classes(scores, true), strict=True
    ):
        changes = collar_changes(found, collars) if by_collar else changes_of(found, criteria)
        # No threshold is below 0.
        changes = Changes(*(column[changes.score > 0] for column in changes))
        best = best_f1(points_of(changes), number)
        if best.value > 0:
            limits[label] = _usable(best.threshold, scores, label)
    return limits


def _usable(threshold: float, scores: Decoded, label: str) -> float:
    """A threshold from 0 to below 1 that detects the same.

    Where no lower score changes anything it may be half of the lowest one that it must be below.
    """
    if threshold == -np.inf:
        chosen = scores.select(labels=[label])
        if isinstance(chosen, Boxes):
            values = chosen.confidence
        else:
            values = np.concatenate([one.values.ravel() for one in chosen.each()])
        threshold = float(values[values > 0].min(initial=1.0)) / 2
    return float(min(max(threshold, 0.0), np.nextafter(1.0, 0.0)))
