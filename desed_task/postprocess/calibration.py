"""Calibrated confidence: the probability that a detected event is right, from its mean score.

    calibration = fit.calibration               # desed_task.postprocess.calibration_fit
    calibration.apply("Dog", 0.83)              # 0.91: nine of ten such events are right
    Calibration.from_plain(calibration.to_plain())  # from a file and into one

Right means: at least half of the event lies in annotated events of its class, one of which it
covers by at least half, alone or together with other such detections (`calibration_fit`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from desed_task.errors import InputError, count_of

Floats = npt.NDArray[np.float64]

ISOTONIC: Final = "isotonic"
TEMPERATURE: Final = "temperature"
KINDS: Final = (ISOTONIC, TEMPERATURE)
# What a confidence is without a calibration.
MEAN_SCORE: Final = "mean score"
# A class with fewer detected events gets the curve of all classes.
MIN_EVENTS: Final = 50
# Logits of scores that are closer to 0 or 1 would be infinite, or decide everything.
LEAST_SCORE: Final = 1e-6


@dataclass(frozen=True)
class IsotonicCurve:
    """A rising curve through points, with straight lines between them and constant outside.

    Attributes:
        confidence: (point,) mean scores, rising.
        probability: (point,) in [0, 1], not falling.
    """

    confidence: tuple[float, ...]
    probability: tuple[float, ...]

    def __call__(self, confidence: npt.ArrayLike) -> Floats:
        """Probabilities, in the shape of the mean scores."""
        values = np.asarray(confidence, dtype=np.float64)
        found: Floats = np.interp(values, self.confidence, self.probability)
        return found

    def to_plain(self) -> dict[str, Any]:
        """Plain values."""
        return {"confidence": list(self.confidence), "probability": list(self.probability)}

    @staticmethod
    def faults(stored: object) -> str:
        """What is wrong with plain values of a curve; "" if nothing is."""
        if not isinstance(stored, Mapping) or set(stored) != {"confidence", "probability"}:
            return f"{stored!r} is not a curve of confidence and probability"
        for key, values in stored.items():
            if not isinstance(values, Sequence) or isinstance(values, str) or not values:
                return f"{key}: {values!r} is not a list of numbers"
            if not all(_is_number(value) and 0 <= value <= 1 for value in values):
                return f"{key}: contains something else than numbers from 0 to 1"
            if any(b < a or (a == b and key == "confidence") for a, b in pairwise(values)):
                return f"{key}: does not rise"
        if len(stored["confidence"]) != len(stored["probability"]):
            return "has lists of different lengths"
        return ""

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> IsotonicCurve:
        """The inverse of `to_plain`, for values without `faults`."""
        return cls(*(tuple(map(float, stored[key])) for key in ("confidence", "probability")))


@dataclass(frozen=True)
class TemperatureCurve:
    """The sigmoid of the logit of the mean score, divided by a temperature above 0."""

    temperature: float

    def __call__(self, confidence: npt.ArrayLike) -> Floats:
        """Probabilities, in the shape of the mean scores."""
        scaled = logits(confidence) / self.temperature
        found: Floats = 1 / (1 + np.exp(-np.clip(scaled, -700, 700)))
        return found

    def to_plain(self) -> dict[str, Any]:
        """Plain values."""
        return {"temperature": self.temperature}

    @staticmethod
    def faults(stored: object) -> str:
        """What is wrong with plain values of a curve; "" if nothing is."""
        if not isinstance(stored, Mapping) or set(stored) != {"temperature"}:
            return f"{stored!r} is not a curve with a temperature"
        value = stored["temperature"]
        return "" if _is_number(value) and value > 0 else f"temperature: {value!r} is not above 0"

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> TemperatureCurve:
        """The inverse of `to_plain`, for values without `faults`."""
        return cls(float(stored["temperature"]))


Curve = IsotonicCurve | TemperatureCurve
_CURVES: Final[Mapping[str, type[IsotonicCurve] | type[TemperatureCurve]]] = {
    ISOTONIC: IsotonicCurve,
    TEMPERATURE: TemperatureCurve,
}


def logits(confidence: npt.ArrayLike) -> Floats:
    """Logits of mean scores, finite at 0 and 1."""
    values = np.clip(np.asarray(confidence, dtype=np.float64), LEAST_SCORE, 1 - LEAST_SCORE)
    found: Floats = np.log(values) - np.log1p(-values)
    return found


@dataclass(frozen=True)
class Calibration:
    """Curves that turn mean scores of detected events into probabilities, class by class.

    Attributes:
        kind: one of `KINDS`.
        curves: label -> the curve of the class, if it had enough events.
        pooled: the curve of all classes together, for those that had not.
        n_events: label -> events detected at the thresholds that it was fitted on. Other classes
            are not calibrated.
        min_events: the number that was enough.
        thresholds: label -> threshold at which these events were detected.
        decoder: kind of the decoder that they were detected with; "" if unknown.
    """

    kind: str
    curves: Mapping[str, Curve]
    pooled: Curve
    n_events: Mapping[str, int]
    min_events: int = MIN_EVENTS
    thresholds: Mapping[str, float] = field(default_factory=dict)
    decoder: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes that are calibrated."""
        return tuple(self.n_events)

    @property
    def pooled_labels(self) -> tuple[str, ...]:
        """Classes that have the curve of all classes, as they had too few events."""
        return tuple(label for label in self.n_events if label not in self.curves)

    def apply(self, label: str, confidence: npt.ArrayLike) -> Floats:
        """Probabilities that events of a class are right.

        Args:
            label: the class.
            confidence: mean scores in [0, 1], in any shape, a number too.

        Returns:
            an array of that shape; it rises with the score, or is flat.

        Raises:
            InputError: for a class that is not calibrated.
        """
        if label not in self.n_events:
            known = ", ".join(self.n_events)
            raise InputError(f"{label!r} is not calibrated; calibrated are {known}")
        return self.curves.get(label, self.pooled)(confidence)

    def of_known(self, label: str, confidence: Floats) -> Floats:
        """`apply`, but mean scores of classes that are not calibrated stay as they are."""
        return self.apply(label, confidence) if label in self.n_events else confidence

    def __str__(self) -> str:
        text = f"{self.kind}, {count_of(len(self.n_events), 'class', 'classes')}"
        pooled = self.pooled_labels
        if not pooled:
            return text
        few = ", ".join(f"{label} {self.n_events[label]}" for label in pooled)
        return (
            f"{text}, {len(pooled)} with the curve of all as they had fewer than "
            f"{count_of(self.min_events, 'event')} ({few})"
        )

    def to_plain(self) -> dict[str, Any]:
        """Numbers, strings, lists and dicts, for a YAML or JSON file; see `from_plain`."""
        return {
            "kind": self.kind,
            "decoder": self.decoder,
            "min_events": self.min_events,
            "n_events": dict(self.n_events),
            "thresholds": dict(self.thresholds),
            "pooled": self.pooled.to_plain(),
            "curves": {label: curve.to_plain() for label, curve in self.curves.items()},
        }

    @classmethod
    def from_plain(cls, stored: object, origin: str = "calibration") -> Calibration:
        """The inverse of `to_plain`, exactly.

        Args:
            stored: value from a file.
            origin: where it is from, for messages.

        Raises:
            InputError: naming all that is wrong with it.
        """
        problems = calibration_problems(stored)
        if problems or not isinstance(stored, Mapping):
            raise InputError.collect(problems, f"{origin}: cannot be used; fit it again:")
        curve = _CURVES[stored["kind"]]
        return cls(
            kind=stored["kind"],
            curves={label: curve.from_plain(one) for label, one in stored["curves"].items()},
            pooled=curve.from_plain(stored["pooled"]),
            n_events=dict(stored["n_events"]),
            min_events=stored["min_events"],
            thresholds={label: float(value) for label, value in stored["thresholds"].items()},
            decoder=stored["decoder"],
        )


def confidence_in_words(calibration: Calibration | None, labels: Sequence[str]) -> str:
    """What the confidence of events of these classes is."""
    if calibration is None:
        return MEAN_SCORE
    text = f"calibrated ({calibration.kind})"
    others = [label for label in labels if label not in calibration.labels]
    return f"{text}; {MEAN_SCORE} for {', '.join(others)}" if others else text


_KEYS: Final = ("kind", "decoder", "min_events", "n_events", "thresholds", "pooled", "curves")


def calibration_problems(stored: object) -> list[str]:
    """What is wrong with plain values of a calibration, one line each."""
    if not isinstance(stored, Mapping):
        return [f"{stored!r} is not a section of keys"]
    problems = [f"{key}: missing" for key in _KEYS if key not in stored]
    problems += [f"{key}: unknown key" for key in stored if key not in _KEYS]
    if problems:
        return problems
    if stored["kind"] not in _CURVES:
        return [f"kind: {stored['kind']!r}; known: {', '.join(KINDS)}"]
    if not isinstance(stored["decoder"], str):
        problems.append(f"decoder: {stored['decoder']!r} is not a name")
    if not _is_count(stored["min_events"]):
        problems.append(f"min_events: {stored['min_events']!r} is not a number of events")
    sections = [key for key in ("n_events", "thresholds", "curves") if not _has_names(stored[key])]
    problems += [f"{key}: {stored[key]!r} is not a section of classes" for key in sections]
    if sections:
        return problems
    curve = _CURVES[stored["kind"]]
    for place, one in {"pooled": stored["pooled"], **_of_curves(stored["curves"])}.items():
        if fault := curve.faults(one):
            problems.append(f"{place}: {fault}")
    counted = stored["n_events"]
    problems += [
        f"n_events.{label}: {number!r} is not a number of events"
        for label, number in counted.items()
        if not _is_count(number)
    ]
    problems += [
        f"thresholds.{label}: {value!r} is not from 0 to below 1"
        for label, value in stored["thresholds"].items()
        if not (_is_number(value) and 0 <= value < 1)
    ]
    problems += [
        f"curves.{label}: not in n_events" for label in stored["curves"] if label not in counted
    ]
    return problems


def _of_curves(curves: Mapping[str, Any]) -> dict[str, Any]:
    return {f"curves.{label}": one for label, one in curves.items()}


def _has_names(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
