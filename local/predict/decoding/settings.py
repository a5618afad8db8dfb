"""What the events of a run follow from: for its JSON files, and to notice results that differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from desed_task.atomic_files import sha256_of
from desed_task.errors import agree, count_of
from desed_task.inference.detector import SoundEventDetector
from desed_task.inference.tuned_values import TunedValues
from desed_task.postprocess.calibration import MEAN_SCORE
from desed_task.postprocess.decoders import MEDIAN, READ_KEYS
from desed_task.postprocess.event_rules import EventRules
from desed_task.postprocess.thresholds import Threshold

_EXAMPLES = 3


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
    if chosen.median_filter != detector.default_median_filter:
        found["median_filter"] = list(chosen.median_filter)
    return {**found, **rules.given}


def unread_line(detector: SoundEventDetector, overrides: Sequence[str]) -> str:
    """Which values of `--set decoder...` the decoder in force does not read; "" if none.

    Args:
        detector: the detector.
        overrides: entries `section.key=value`.
    """
    kind = detector.post_processing.settings.kind
    keys = [one.partition("=")[0].strip() for one in overrides]
    read = [f"decoder.{key}" for key in ("kind", *READ_KEYS[kind])]
    unread = [key for key in keys if key.startswith("decoder.") and key not in read]
    if not unread:
        return ""
    used = agree(len(unread), "is", "are")
    return f"events are decoded by {kind}: --set {', --set '.join(unread)} {used} not used"


def tuned_lines(
    detector: SoundEventDetector, tuned: TunedValues, threshold: Threshold, rules: EventRules
) -> str:
    """What a command uses of the values that were tuned for its checkpoint, for the user.

    Args:
        detector: the detector.
        tuned: the values.
        threshold: the thresholds in force.
        rules: rules of events.

    Raises:
        InputError: for thresholds and rules that cannot be meant.
    """
    chosen, labels = detector.post_processing, detector.labels
    calibration = chosen.calibration
    text = f"tuned values: {tuned.origin} (decoder {chosen.settings.kind}"
    if calibration is None:
        return f"{text}; confidence is the {MEAN_SCORE})"
    known = [label for label in labels if label in calibration.labels]
    number = count_of(len(labels), "class", "classes")
    text += f"; confidence is calibrated, {calibration.kind}, for {len(known)} of {number}"
    text += f" and the {MEAN_SCORE} for the others)" if len(known) < len(labels) else ")"
    ruled = detector.class_rules(threshold, rules)
    limits = dict(zip(labels, ruled.thresholds.tolist(), strict=True))
    other = [label for label in known if limits[label] != calibration.thresholds.get(label)]
    if other and calibration.thresholds:
        shown = ", ".join(other[:_EXAMPLES]) + ", ..." * (len(other) > _EXAMPLES)
        text += (
            f"\nthe calibration of {count_of(len(other), 'class', 'classes')} ({shown}) was fitted "
            "at another threshold, so it is less certain"
        )
    for name, members in rules.merged_classes.items():
        parts = [
            [one for one in members if (one in known) is of_known] for of_known in (True, False)
        ]
        if all(parts):
            text += (
                f"\nconfidences of {name} are calibrated for {', '.join(parts[0])} and mean scores "
                f"for {', '.join(parts[1])}; of joined events the highest counts"
            )
    return text


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
    ruled = detector.class_rules(threshold, rules)
    limits = dict(zip(ruled.labels, ruled.thresholds, strict=True))
    found = {**made_by, "threshold": limits, **described(detector, rules)}
    if "checkpoint" in found:
        found["checkpoint"] = sha256_of(found["checkpoint"])
    if several := found.pop("checkpoints", None):
        networks = [f"{one['sha256']} {one.get('model', '')}".rstrip() for one in several]
        found["checkpoint"] = "; ".join(networks)
    confidence = detector.confidence_is
    if confidence != MEAN_SCORE:
        calibration = detector.post_processing.calibration
        assert calibration is not None
        text = json.dumps(calibration.to_plain(), sort_keys=True)
        found["confidence"] = f"{confidence}, {hashlib.sha256(text.encode()).hexdigest()}"
    return {name: str(value) for name, value in found.items()}
