"""The page of a recording that `predict.py` processes: what it needs is collected on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from desed_task.errors import count_of
from desed_task.file_names import escape_name
from desed_task.inference.detector import DetectionResult, SoundEventDetector
from desed_task.postprocess.calibration import MEAN_SCORE
from desed_task.postprocess.event_rules import NO_RULES, EventRules
from desed_task.postprocess.ruled_events import ClassRules
from local.predict.mel_image import MelImage
from local.predict.pages import EMBEDDED_MB
from local.predict.pages.content import MEL_COLUMNS, PageContent, PageRules
from local.predict.pages.page import write_page
from local.predict.pages.sound import SoundCopy, needs_copy, sound_of
from local.predict.timeline import NEAR

# A page of more classes has only those that come near their thresholds.
MOST_CLASSES = 60


class RecordingPage:
    """What the page of a recording needs besides what is detected, collected while it is read.

    Args:
        recording: the file.
        detector: what detects its events.
        rules: rules of events.
        embedded_mb: size up to which its sound is a part of the page.
    """

    def __init__(
        self,
        recording: Path,
        detector: SoundEventDetector,
        rules: EventRules = NO_RULES,
        *,
        embedded_mb: float = EMBEDDED_MB,
    ) -> None:
        self._recording, self._embedded_mb = recording, embedded_mb
        self._detector, self._rules = detector, rules
        self._mel = MelImage(detector.mel_settings, most_columns=MEL_COLUMNS)
        self._copy = None
        if needs_copy(recording):
            self._copy = SoundCopy(detector.sample_rate, embedded_mb * 1e6)

    def watch(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Pass blocks (sample,) through."""
        watched = self._mel.watch(blocks)
        return watched if self._copy is None else self._copy.watch(watched)

    def write(
        self,
        path: Path,
        found: DetectionResult,
        thresholds: Mapping[str, float],
        made_by: Mapping[str, Any],
    ) -> None:
        """Write the page, after all blocks have passed.

        Args:
            path: its file.
            found: what was detected.
            thresholds: label -> threshold.
            made_by: settings of the detection.
        """
        rules = self._detector.class_rules(thresholds, self._rules)
        calibration = self._detector.post_processing.calibration
        columns = _shown_columns(found, rules)
        labels = [found.labels[column] for column in columns]
        facts = _facts(made_by, found.confidence_is)
        if n_hidden := len(found.labels) - len(labels):
            hidden = count_of(n_hidden, "other never comes", "others never come")
            facts["classes"] = f"{len(labels)} shown; {hidden} above half their threshold"
        content = PageContent(
            name=escape_name(self._recording.name),
            duration_s=found.duration_s,
            labels=labels,
            boundaries_s=found.boundaries_s,
            scores=found.scores[:, columns],
            thresholds=thresholds,
            events=found.events,
            mel=self._mel,
            sound=sound_of(self._recording, path, embedded_mb=self._embedded_mb, copy=self._copy),
            boxes=[b for b in found.boxes if b.label in labels] if found.boxes else None,
            rules=PageRules.of_classes(rules, self._rules, calibration).among(labels),
            facts=facts,
        )
        write_page(path, content)


def _shown_columns(found: DetectionResult, rules: ClassRules) -> list[int]:
    """Columns of the classes that a page has: all, or of many those near their thresholds.

    The others would fill most of the file and have no event at any threshold of interest. Merged
    classes have all their members or none.
    """
    n_classes = len(found.labels)
    if n_classes <= MOST_CLASSES or not len(found.scores):
        return list(range(n_classes))
    near = found.scores.max(axis=0) > NEAR * np.minimum(rules.thresholds, rules.low)
    shown = set(rules.goes_to[near].tolist())
    return [column for column, place in enumerate(rules.goes_to.tolist()) if place in shown]


def _facts(made_by: Mapping[str, Any], confidence_is: str) -> dict[str, str]:
    """What a page says of the origin of its events, in short words; the JSON says all."""
    named = ("checkpoint", "model", "detector", "classes")
    facts = {name: str(made_by[name]) for name in named if name in made_by}
    if "classes" in facts:
        facts["chosen"] = facts.pop("classes")
    if "checkpoints" in made_by:
        paths = [str(one.get("checkpoint", "")) for one in made_by["checkpoints"]]
        facts["mean of"] = "; ".join(paths)
    if "decoder" in made_by:
        facts["decoder"] = str(made_by["decoder"]["kind"])
    for name in ("low_threshold", "merge_gap_s", "min_duration_s"):
        if name in made_by:
            by_class = isinstance(made_by[name], Mapping)
            facts[name] = "by class" if by_class else f"{made_by[name]:g}"
    if confidence_is != MEAN_SCORE:
        facts["confidence"] = confidence_is
    return {name: escape_name(value) for name, value in facts.items()}
