"""What the events of a run follow from: for its JSON files, and to notice results that differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from desed_task.atomic_files import sha256_of
from desed_task.inference.detector import SoundEventDetector
from desed_task.postprocess.calibration import MEAN_SCORE
from desed_task.postprocess.decoders import MEDIAN
from desed_task.postprocess.event_rules import EventRules
from desed_task.postprocess.thresholds import Threshold, class_thresholds


def described(detector: SoundEventDetector, rules: EventRules) -> dict[str, Any]:
    """What is not as published: decoder, tuned median filters, and rules, as plain values.

    Args:
        detector: the detector.
        rules: rules of events.
    """
    chosen = detector.post_processing
    found: dict[str, Any] = {}
    if chosen.settings.kind != MEDIAN:
        found["decoder"] = chosen.settings.to_plain()
    if chosen.median_filter != detector.spec.median_filter:
        found["median_filter"] = list(chosen.median_filter)
    return {**found, **rules.given}


def settings_in_words(
    detector: SoundEventDetector,
    made_by: Mapping[str, Any],
    threshold: Threshold,
    rules: EventRules,
) -> dict[str, str]:
    """What events follow from, in words; checkpoints by content, as machines differ in paths.

    Only what was chosen has a name, so that results of earlier versions count as equal.

    Args:
        detector: the detector.
        made_by: checkpoint, network and hop.
        threshold: see `SoundEventDetector.detect`.
        rules: rules of events.
    """
    limits = dict(zip(detector.labels, class_thresholds(threshold, detector.labels), strict=True))
    found = {**made_by, "threshold": limits, **described(detector, rules)}
    found["checkpoint"] = sha256_of(found["checkpoint"])
    confidence = detector.confidence_is
    if confidence != MEAN_SCORE:
        calibration = detector.post_processing.calibration
        assert calibration is not None
        text = json.dumps(calibration.to_plain(), sort_keys=True)
        found["confidence"] = f"{confidence}, {hashlib.sha256(text.encode()).hexdigest()}"
    return {name: str(value) for name, value in found.items()}
