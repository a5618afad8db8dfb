"""Rules from scores or boxes to events: hysteresis, joined gaps, shortest events, merged classes.

    rules = EventRules(merge_gap_s=0.2, min_duration_s={"Dog": 0.1}).of_classes(labels, 0.5)
    found = rules.events_of_scores(scores, boundaries_s)    # of frames
    found = rules.events_of_boxes(boxes)                    # of a decoder that gives boxes
    found.events[0].label

They are applied in this order, to each class by itself:

1. An event is a run of frames whose score is above the threshold. With a low threshold (hysteresis)
   it is a run above that one which contains a score above the threshold. Of boxes, those with a
   confidence above the threshold.
2. Events with a gap shorter than `merge_gap_s` become one. Its confidence is the mean score over
   all its frames, those of the gap included; of boxes, the mean weighted by their durations.
3. Events shorter than `min_duration_s` are dropped.
4. Events of merged classes get the name of these, and those that overlap or touch become one with
   the highest of their confidences.

Times are compared after rounding to the microsecond. Without rules, events are those of step 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np

from desed_task.errors import InputError
from desed_task.labels import near_labels
from desed_task.postprocess.ruled_events import ClassRules, Floats, Ints
from desed_task.postprocess.thresholds import DEFAULT_THRESHOLD, Threshold, class_thresholds

# One for all classes, or label -> value.
PerClass = float | Mapping[str, float]
_EXAMPLES: Final = 3


@dataclass(frozen=True)
class EventRules:
    """What happens between scores and events, beside the threshold; nothing by default.

    Attributes:
        low_threshold: of hysteresis, not above the threshold; label -> value leaves other classes
            without it, as None does all.
        min_duration_s: seconds that an event must last; label -> value, 0 for others.
        merge_gap_s: seconds from which on a gap separates events; label -> value, 0 for others.
        merged_classes: new label -> classes whose events it gets.
    """

    low_threshold: PerClass | None = None
    min_duration_s: PerClass = 0.0
    merge_gap_s: PerClass = 0.0
    merged_classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def given(self) -> dict[str, Any]:
        """The rules that differ from the default, as plain values."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        plain: dict[str, Any] = {}
        for name, value in values.items():
            if isinstance(value, Mapping):
                value = {k: list(v) if name == "merged_classes" else v for k, v in value.items()}
            if value not in (None if name == "low_threshold" else 0.0, {}):
                plain[name] = value
        return plain

    def of_classes(
        self,
        labels: Sequence[str],
        threshold: Threshold = DEFAULT_THRESHOLD,
        *,
        boxes: bool = False,
    ) -> ClassRules:
        """The rules of each class.

        Args:
            labels: the classes.
            threshold: one for all, or label -> threshold (0.5 for others).
            boxes: whether they are for boxes, which have one score each.

        Raises:
            InputError: naming all that is wrong: unknown labels, values out of range, a low
                threshold above the threshold or for boxes, and merged classes that are empty, share
                a class, or have the name of one.
        """
        problems, limits = self._limits(labels, threshold)
        low, of_low = self._values("low_threshold", labels, limits)
        of_low += _above(low, limits, labels)
        if boxes and self.low_threshold not in (None, {}):
            of_low = [
                "low_threshold: for hysteresis scores must change in an event, but a box has one "
                "confidence; leave it out, or choose the decoder median"
            ]
        zeros = np.zeros(len(labels))
        shortest, of_duration = self._values("min_duration_s", labels, zeros)
        gaps, of_gap = self._values("merge_gap_s", labels, zeros)
        names, output, of_merged = self._merged(labels)
        problems += [*of_low, *of_duration, *of_gap, *of_merged]
        if problems:
            raise InputError.collect(problems)
        return ClassRules(tuple(labels), limits, low, shortest, gaps, names, output)

    def _limits(self, labels: Sequence[str], threshold: Threshold) -> tuple[list[str], Floats]:
        named = threshold if isinstance(threshold, Mapping) else {}
        problems = [self._of_merged("threshold", name) for name in named if self._renames(name)]
        known = {name: value for name, value in named.items() if not self._renames(name)}
        try:
            rest = known if isinstance(threshold, Mapping) else threshold
            return problems, class_thresholds(rest, labels)
        except InputError as error:
            return [*problems, str(error)], np.full(len(labels), DEFAULT_THRESHOLD)

    def _renames(self, name: str) -> bool:
        return name in self.merged_classes

    def _of_merged(self, key: str, name: str) -> str:
        members = ", ".join(self.merged_classes[name]) or "none"
        return (
            f"{key}: {name!r} is a merged class, not one of the network's; give values for those "
            f"that it is made of: {members}"
        )

    def _values(self, key: str, labels: Sequence[str], default: Floats) -> tuple[Floats, list[str]]:
        """(class,) values of a rule, and what is wrong with it."""
        given, values, problems = getattr(self, key), default.copy(), []
        if given is None:
            return values, []
        named = given if isinstance(given, Mapping) else dict.fromkeys(labels, given)
        for name, value in named.items():
            shown = f" for {name}" if isinstance(given, Mapping) else ""
            if name not in labels:
                known = f"unknown label {name!r}; {near_labels(name, labels)}"
                problems.append(
                    self._of_merged(key, name) if self._renames(name) else f"{key}: {known}"
                )
            elif fault := _fault(key, value):
                problems.append(f"{key}: {value!r}{shown}: {fault}")
            else:
                values[list(labels).index(name)] = value
        return values, list(dict.fromkeys(problems))

    def _merged(self, labels: Sequence[str]) -> tuple[tuple[str, ...], Ints, list[str]]:
        """Names of all classes and merged ones, (class,) where each class's events go; problems."""
        key, problems, home = "merged_classes", [], dict[str, str]()
        for name, members in self.merged_classes.items():
            if not (isinstance(name, str) and name.strip() and name.isprintable()):
                problems.append(f"{key}: {name!r} is not a name; give one of printable characters")
            elif name in labels:
                problems.append(f"{key}: {name!r} is the name of a class; give another one")
            if not members:
                problems.append(f"{key}: {name} is made of no class; name at least one")
            for member in members:
                if member not in labels:
                    near = near_labels(member, labels)
                    problems.append(f"{key}: {name}: unknown label {member!r}; {near}")
                elif home.setdefault(member, name) != name:
                    problems.append(
                        f"{key}: {member} is in {home[member]} and in {name}; keep it in one of "
                        "them"
                    )
        names = (*labels, *self.merged_classes)
        goes_to = [names.index(home.get(label, label)) for label in labels]
        return names, np.array(goes_to, dtype=np.int64), problems


def _above(low: Floats, limits: Floats, labels: Sequence[str]) -> list[str]:
    """Low thresholds that are above their thresholds, those of equal values in one line."""
    which: dict[tuple[float, float], list[str]] = {}
    for label, limit, value in zip(labels, limits.tolist(), low.tolist(), strict=True):
        if value > limit:
            which.setdefault((value, limit), []).append(label)
    problems = []
    for (value, limit), own in which.items():
        more = f" and {len(own) - _EXAMPLES} more" if len(own) > _EXAMPLES else ""
        problems.append(
            f"low_threshold: {value:g} is above the threshold {limit:g} of "
            f"{', '.join(own[:_EXAMPLES])}{more}; lower it, or raise the threshold"
        )
    return problems


def _fault(key: str, value: Any) -> str:
    """What is wrong with a value of a rule; "" if nothing is."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if key == "low_threshold":
        return "" if number and 0 <= value < 1 else "give a threshold from 0 to below 1"
    return "" if number and 0 <= value < math.inf else "give seconds, 0 or more"


NO_RULES: Final = EventRules()
