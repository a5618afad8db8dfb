"""Sections of the configuration: from scores to events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from desed_task.audioset.classes import class_map, map_names, strong_classes
from desed_task.errors import InputError
from desed_task.postprocess.calibration import calibration_problems
from desed_task.postprocess.decoders import DecoderSettings
from desed_task.postprocess.event_rules import EventRules
from local.schema.published_keys import EARLIER_OBJECTIVES
from local.schema.strict import StrictModel

Probability = Annotated[float, Field(ge=0, lt=1)]
Seconds = Annotated[float, Field(ge=0)]
# One for all classes, or label -> value.
ClassNumber = float | dict[str, float]
ClassLimit = float | None | dict[str, float | None]


def detected_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Classes that predict.py can detect: a task's, AudioSet's, and those that these map to."""
    mapped = [label for name in map_names() for label in class_map(name) or ()]
    return tuple(dict.fromkeys([*classes, *strong_classes(), *mapped]))


class DecoderConfig(StrictModel):
    """How scores become what events are detected in (`desed_task.postprocess.decoders`).

    A value is one for all classes, or label -> value, with the default for the others.
    """

    kind: Literal["median", "boxes", "threshold_boxes"] = "median"
    """median, as published: scores filtered with the lengths of net.median_filter. boxes:
    change-point event boxes of the unfiltered scores. threshold_boxes: runs of frames whose
    filtered score is above `threshold`, with their mean as confidence."""
    step_filter_s: ClassNumber = 0.5
    """Length of the step filter of boxes, in seconds."""
    merge_abs: ClassLimit = None
    """Boxes become one if the scores fall by less than this between them; null for no limit."""
    merge_rel: ClassLimit = 2.0
    """Boxes become one if the scores fall by less than this ratio between them, and by less than
    merge_abs; null for no limit. If both are null, no boxes are merged."""
    threshold: ClassNumber = 0.5
    """Of the boxes of threshold_boxes. The thresholds of events are those of `predict`."""

    @property
    def settings(self) -> DecoderSettings:
        """The settings as the library takes them."""
        return DecoderSettings(**self.model_dump())


class Predict(StrictModel):
    """Settings of predict.py; labels may be those of any detector that it takes."""

    hop_s: float = Field(default=5.12, gt=0)
    """Hop between windows in seconds, rounded to whole frames. Windows are as long as a training
    clip; with a smaller hop more of them overlap, which takes longer."""
    threshold: Probability | dict[str, Probability] = 0.5
    """Scores above it are events. One for all classes, or label -> threshold, 0.5 for other
    classes."""

    low_threshold: Probability | dict[str, Probability] | None = None
    """Of hysteresis: an event extends to where its score falls to this, not above the threshold.
    One for all classes, or label -> value, and none for other classes."""
    min_duration_s: Seconds | dict[str, Seconds] = 0.0
    """Shorter events are dropped. One for all classes, or label -> seconds, 0 for others."""
    merge_gap_s: Seconds | dict[str, Seconds] = 0.0
    """Events of a class with a shorter gap are joined first. One for all classes, or label ->
    seconds, 0 for others."""
    merged_classes: dict[str, tuple[str, ...]] = Field(default={})
    """New label -> classes whose events are written under it, joined where they overlap."""

    def problems(self, classes: Sequence[str]) -> list[str]:
        """What is wrong with values by class, for a task or any detector that predict.py takes.

        Args:
            classes: of the task.
        """
        found = []
        for key in ("threshold", "low_threshold", "min_duration_s", "merge_gap_s"):
            given = getattr(self, key)
            named = given if isinstance(given, dict) else {}
            unknown = {*named} - {*classes} and {*named} - {*detected_classes(classes)}
            if unknown:
                names = ", ".join(one for one in named if one in unknown)
                found.append(f"predict.{key}: names unknown classes: {names}")
        labels: Sequence[str] = classes
        merged = self.merged_classes
        if {one for members in merged.values() for one in members} - {*classes}:
            # Which of them the detector has is known when it is loaded.
            labels = [label for label in detected_classes(classes) if label not in merged]
        try:
            EventRules(merged_classes=merged).of_classes(labels)
        except InputError as error:
            found.append(f"predict.merged_classes: {error}")
        return found


class Tuned(StrictModel):
    """Written by optuna_pretrained.py into best.yaml."""

    checkpoint_sha256: str = ""
    """SHA-256 of the checkpoint that net.median_filter, decoder and predict.threshold were tuned
    for. A test of this file uses the filters and the decoder given here instead of the file's
    own."""
    network: Literal["student", "teacher", ""] = ""
    """The network whose scores they were tuned on; empty if unknown. predict.py --tuned uses it."""
    objective: Literal["held_out", "test", ""] = ""
    """What they were tuned on; test: an oracle's, on the clips of tests. Empty: unknown."""
    threshold_metric: Literal["collar", "intersection", ""] = ""
    """The F1 that predict.threshold was tuned for; empty: not tuned."""
    calibration: dict[str, Any] | None = None
    """Of the confidence of events, fitted on held-out clips, as
    `desed_task.postprocess.calibration` stores it."""

    @property
    def is_oracle(self) -> bool:
        """Whether the values were tuned on the clips of tests."""
        return self.objective == "test"

    @field_validator("objective", mode="before")
    @classmethod
    def _as_called_now(cls, given: Any) -> Any:
        return EARLIER_OBJECTIVES.get(given, given) if isinstance(given, str) else given

    @field_validator("calibration")
    @classmethod
    def _is_a_calibration(cls, stored: dict[str, Any] | None) -> dict[str, Any] | None:
        if problems := [] if stored is None else calibration_problems(stored):
            raise ValueError(f"{'; '.join(problems)}; tune again")
        return stored
