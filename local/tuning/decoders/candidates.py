"""Candidates of a class: what its decoder may be, and the class decoded with one of them.

A candidate of `median` is a length in frames, one of `boxes` its `BoxSettings`, one of
`threshold_boxes` a threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from desed_task.evaluation.boxes import Boxes, Decoded
from desed_task.evaluation.scores import FrameScores, Scores
from desed_task.inference.tuned_values import for_labels
from desed_task.postprocess import ClassMedianFilter
from desed_task.postprocess.decoders import (
    BOXES,
    MEDIAN,
    THRESHOLD_BOXES,
    DecoderSettings,
    ThresholdBoxDecoder,
    boxes_of,
    decoder_of,
)
from desed_task.postprocess.event_boxes import BoxSettings, StepBoxes, find_step_boxes
from local.config import RecipeConfig
from local.tuning.search.lines import event_classes
from local.tuning.search_space import Dimension, Space

Candidate = int | float | BoxSettings
# Scores of one class and a candidate -> what its events are detected in.
ClassDecoder = Callable[[Scores, Any], Decoded]
Candidates = Mapping[str, Sequence[Any]]  # class -> what to try


def filtered_class(scores: Scores, length: int) -> Scores:
    """Scores of one class after a median filter."""
    return scores.map(ClassMedianFilter([length]))


class BoxesOfClass:
    """Finds boxes of single classes; settings of one filter length share what takes longest.

    It is for the scores of one part of the data, whose boxes before merging it keeps.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, float], list[StepBoxes]] = {}

    def __call__(self, scores: Scores, settings: BoxSettings) -> Boxes:
        """The boxes of the only class of the scores."""
        (label,) = scores.vocabulary.labels
        found = self._found.setdefault((label, settings.step_filter_s), [])
        number = 0

        def find(block: FrameScores) -> Any:
            nonlocal number
            if number == len(found):
                signals, length_s = block.values[..., 0], settings.step_filter_s
                found.append(find_step_boxes(signals, block.boundaries_s, length_s))
            merged = settings.merge(found[number])
            number += 1
            return merged.signal, np.zeros(len(merged.signal), dtype=np.int64), *merged[1:]

        return boxes_of(scores, find)


class ThresholdBoxesOfClass:
    """Finds boxes of single classes above thresholds of their filtered scores.

    Args:
        lengths: class -> length of its median filter.
    """

    def __init__(self, lengths: Mapping[str, int]) -> None:
        self.lengths = lengths
        self._filtered: dict[str, Scores] = {}

    def __call__(self, scores: Scores, threshold: float) -> Boxes:
        """The boxes of the only class of the scores, always those of one part."""
        (label,) = scores.vocabulary.labels
        if label not in self._filtered:
            self._filtered[label] = filtered_class(scores, self.lengths[label])
        find = ThresholdBoxDecoder(ClassMedianFilter([1]), np.array([threshold]))
        return find(self._filtered[label])


def class_decoder(kind: str, config: RecipeConfig) -> ClassDecoder:
    """A decoder of the classes of one part."""
    if kind == MEDIAN:
        return filtered_class
    if kind == BOXES:
        return BoxesOfClass()
    return ThresholdBoxesOfClass(length_of_classes(config))


def length_of_classes(config: RecipeConfig) -> dict[str, int]:
    """Class -> length of its median filter in frames."""
    classes = config.detection_task.classes
    return dict(zip(classes, config.net.median_filter, strict=True))


def decoded_events(config: RecipeConfig, scores: Scores) -> Decoded:
    """The classes of scores whose events are scored, decoded as a configuration says."""
    classes, of = event_classes(config.detection_task), length_of_classes(config)
    settings = DecoderSettings(**for_labels(config.decoder.settings.to_plain(), classes))
    lengths = tuple(of[label] for label in classes)
    decode = decoder_of(settings, classes, median_filter=lengths)
    return decode(scores.select(labels=classes))


def own_candidates(kind: str, config: RecipeConfig) -> dict[str, Candidate]:
    """What a configuration gives each class whose events are scored.

    Values of another decoder's section count too: those that are not named have defaults.
    """
    settings, classes = config.decoder.settings, event_classes(config.detection_task)
    if kind == MEDIAN:
        of = length_of_classes(config)
        own: Iterable[Candidate] = [of[label] for label in classes]
    elif kind == BOXES:
        own = settings.of_boxes(classes)
    else:
        own = settings.thresholds(classes).tolist()
    return dict(zip(classes, own, strict=True))


def overrides_of(
    kind: str, config: RecipeConfig, chosen: Mapping[str, Any], lengths: Sequence[int]
) -> dict[str, Any]:
    """Dotted path -> value that make a configuration decode with the candidates.

    Args:
        kind: the decoder.
        config: the configuration to change.
        chosen: class -> candidate.
        lengths: frames of the median filters, one per class of the task.
    """
    found: dict[str, Any] = {"net.median_filter": list(lengths), "decoder.kind": kind}
    if kind == BOXES:
        for key in ("step_filter_s", "merge_abs", "merge_rel"):
            values = {label: getattr(one, key) for label, one in chosen.items()}
            found[f"decoder.{key}"] = _for_others(config, key, values)
    elif kind == THRESHOLD_BOXES:
        found["decoder.threshold"] = _for_others(config, "threshold", dict(chosen))
    return found


def _for_others(config: RecipeConfig, key: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values, and those of classes that the configuration gives others than the default."""
    before = getattr(config.decoder, key)
    if isinstance(before, dict):
        return {**before, **values}
    default = type(config.decoder)()
    if before == getattr(default, key):
        return values
    return {**dict.fromkeys(config.detection_task.classes, before), **values}


def candidates_of(kind: str, space: Space, config: RecipeConfig) -> dict[str, list[Any]]:
    """Class -> all candidates that the search space describes.

    Of boxes, each length of the step filter with one merge threshold at a time: merge_abs or
    merge_rel, the other one null.

    Args:
        kind: the decoder.
        space: lines of this decoder.
        config: gives what the space does not name.

    Raises:
        InputError: for a line without a step, which has no end of values.
    """
    if kind == MEDIAN:
        classes = config.detection_task.classes
        return {
            class_of(one, classes): [int(n) for n in values_of(one)] for one in space.dimensions
        }
    keys: dict[str, dict[str, list[Any]]] = {}
    for one in space.dimensions:
        _, key, label = one.path.split(".", 2)
        keys.setdefault(label, {})[key] = values_of(one)
    if kind == THRESHOLD_BOXES:
        return {label: of["threshold"] for label, of in keys.items()}
    own = own_candidates(kind, config)
    return {label: _box_grid(of, own[label]) for label, of in keys.items()}


def _box_grid(of: Mapping[str, list[Any]], own: Any) -> list[BoxSettings]:
    lengths_s = of.get("step_filter_s", [own.step_filter_s])
    merges: list[tuple[float | None, float | None]] = []
    merges += [(value, None) for value in of.get("merge_abs", []) if value is not None]
    merges += [(None, value) for value in of.get("merge_rel", []) if value is not None]
    merges = merges or [(own.merge_abs, own.merge_rel)]
    return [BoxSettings(length_s, *merge) for length_s in lengths_s for merge in merges]


def values_of(one: Dimension) -> list[Any]:
    """All values but null that a line of the search space describes; see `candidates_of`."""
    if one.kind == "categorical":
        return [choice for choice in one.choices if choice is not None]
    return [value for value in one.steps() if value is not None]


def class_of(one: Dimension, classes: Sequence[str]) -> str:
    """The class of the task that a line of the space names, by itself or its number."""
    name = one.path.split(".", 2)[2]
    return classes[int(name)] if name not in classes and name.isdigit() else name


def order_of(candidate: Any) -> tuple[float, ...]:
    """A key by which candidates of one kind are sorted."""
    if not isinstance(candidate, BoxSettings):
        return (float(candidate),)
    merges = (candidate.merge_abs, candidate.merge_rel)
    return (candidate.step_filter_s, *(-1.0 if one is None else float(one) for one in merges))


def name_of(candidate: Any) -> str:
    """A candidate in few words."""
    if not isinstance(candidate, BoxSettings):
        return f"{candidate:g}"
    merges = [
        f"{name} {value:g}"
        for name, value in (("abs", candidate.merge_abs), ("rel", candidate.merge_rel))
        if value is not None
    ]
    return f"{candidate.step_filter_s:g} s, {' and '.join(merges) or 'unmerged'}"
