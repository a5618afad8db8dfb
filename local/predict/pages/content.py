"""What a page shows: scores, how events follow from them, sound, and annotated events."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from desed_task.inference.detector import SoundEvent
from desed_task.postprocess.calibration import Calibration
from desed_task.postprocess.event_rules import EventRules
from desed_task.postprocess.ruled_events import ClassRules
from local.predict.mel_image import MelImage
from local.predict.pages.sound import NO_SOUND, PageSound

# Columns of a page's spectrogram before it is averaged, which must do for an enlarged hour.
MEL_COLUMNS = 8000


@dataclass(frozen=True)
class PageRules:
    """How events follow from scores beyond thresholds; by label, absent where not in force.

    Attributes:
        low: lower threshold of the hysteresis.
        merge_gap_s: gaps shorter than this are closed.
        min_duration_s: events shorter than this are dropped.
        merged: new label -> its member classes, which have no events of their own in tables.
        calibration: label -> what turns its mean scores into confidences, as plain values:
            `{"confidence": [...], "probability": [...]}`, points of a curve with straight lines
            between them, or `{"temperature": T}`.
    """

    low: Mapping[str, float] = field(default_factory=dict)
    merge_gap_s: Mapping[str, float] = field(default_factory=dict)
    min_duration_s: Mapping[str, float] = field(default_factory=dict)
    merged: Mapping[str, Sequence[str]] = field(default_factory=dict)
    calibration: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of_classes(
        cls, rules: ClassRules, given: EventRules, calibration: Calibration | None = None
    ) -> PageRules:
        """The rules of a detector's classes, and the calibration of its confidences.

        Args:
            rules: of each class.
            given: what they were made of, which tells a lower threshold that equals the threshold
                from none.
            calibration: of the detector.
        """
        labels = rules.labels
        low = given.low_threshold
        low_of = low if isinstance(low, Mapping) else dict.fromkeys(labels, low)
        curves = {} if calibration is None else calibration.curves
        known = () if calibration is None else calibration.labels
        return cls(
            low={label: value for label, value in low_of.items() if value is not None},
            merge_gap_s=dict(zip(labels, rules.merge_gap_s.tolist(), strict=True)),
            min_duration_s=dict(zip(labels, rules.min_duration_s.tolist(), strict=True)),
            merged={
                name: [labels[c] for c in np.flatnonzero(rules.goes_to == place)]
                for place, name in enumerate(rules.names)
                if place >= len(labels)
            },
            calibration={
                label: curves.get(label, calibration.pooled).to_plain()
                for label in labels
                if calibration is not None and label in known
            },
        )

    def among(self, labels: Collection[str]) -> PageRules:
        """Those of some of the classes; merged ones whose members are not there are left out."""
        return PageRules(
            low={k: v for k, v in self.low.items() if k in labels},
            merge_gap_s={k: v for k, v in self.merge_gap_s.items() if k in labels},
            min_duration_s={k: v for k, v in self.min_duration_s.items() if k in labels},
            merged={k: v for k, v in self.merged.items() if all(one in labels for one in v)},
            calibration={k: v for k, v in self.calibration.items() if k in labels},
        )


@dataclass(frozen=True)
class PageTruth:
    """Annotated events, which a page shows above the detected ones, and what counts as a hit.

    Attributes:
        events: the annotated events (their confidence is not shown).
        detection_overlap: a detected event is right if at least this part of it is covered by
            annotated events of its class; others are false alarms.
        truth_overlap: an annotated event is found if at least this part of it is covered by right
            detections; others are misses.
    """

    events: Sequence[SoundEvent]
    detection_overlap: float = 0.7
    truth_overlap: float = 0.7


@dataclass(frozen=True)
class PageContent:
    """A recording, or a clip, as a page shows it.

    Attributes:
        name: the recording's name, as tables show it (`desed_task.file_names.escape_name`).
        duration_s: its length in seconds.
        labels: classes, in the order of the score columns.
        boundaries_s: (frame + 1,) seconds.
        scores: (frame, class), after the decoder: what thresholds are compared with.
        thresholds: label -> threshold, for all labels.
        events: the detected events, for the summary that an index page reads.
        mel: mel spectrogram, with `MEL_COLUMNS` columns.
        sound: what the player plays.
        boxes: all boxes, whatever the threshold, if events come from boxes; None if they are runs
            of frames.
        rules: further rules for events.
        truth: annotated events; None if they are unknown.
        facts: what the page says about its origin: name -> value, such as the checkpoint.
    """

    name: str
    duration_s: float
    labels: Sequence[str]
    boundaries_s: npt.NDArray[np.float64]
    scores: npt.NDArray[np.floating]
    thresholds: Mapping[str, float]
    events: Sequence[SoundEvent]
    mel: MelImage
    sound: PageSound = NO_SOUND
    boxes: Sequence[SoundEvent] | None = None
    rules: PageRules = field(default_factory=PageRules)
    truth: PageTruth | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
