"""The page of a recording that `predict.py` processes: what it needs is collected on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from desed_task.file_names import escape_name
from desed_task.inference.detector import DetectionResult, SoundEventDetector
from desed_task.postprocess.calibration import MEAN_SCORE
from desed_task.postprocess.event_rules import NO_RULES, EventRules
from local.predict.mel_image import MelImage
from local.predict.pages import EMBEDDED_MB
from local.predict.pages.content import MEL_COLUMNS, PageContent, PageRules
from local.predict.pages.page import write_page
from local.predict.pages.sound import SoundCopy, needs_copy, sound_of


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
        spec = detector.spec
        self._mel = MelImage(spec.front_end, most_columns=MEL_COLUMNS)
        self._copy = None
        if needs_copy(recording):
            self._copy = SoundCopy(spec.sample_rate, embedded_mb * 1e6)

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
        content = PageContent(
            name=escape_name(self._recording.name),
            duration_s=found.duration_s,
            labels=found.labels,
            boundaries_s=found.boundaries_s,
            scores=found.scores,
            thresholds=thresholds,
            events=found.events,
            mel=self._mel,
            sound=sound_of(self._recording, path, embedded_mb=self._embedded_mb, copy=self._copy),
            boxes=found.boxes or None,
            rules=PageRules.of_classes(rules, self._rules, calibration),
            facts=_facts(made_by, found.confidence_is),
        )
        write_page(path, content)


def _facts(made_by: Mapping[str, Any], confidence_is: str) -> dict[str, str]:
    """What a page says of the origin of its events, in short words; the JSON says all."""
    facts = {name: str(made_by[name]) for name in ("checkpoint", "model") if name in made_by}
    if "decoder" in made_by:
        facts["decoder"] = str(made_by["decoder"]["kind"])
    for name in ("low_threshold", "merge_gap_s", "min_duration_s"):
        if name in made_by:
            by_class = isinstance(made_by[name], Mapping)
            facts[name] = "by class" if by_class else f"{made_by[name]:g}"
    if confidence_is != MEAN_SCORE:
        facts["confidence"] = confidence_is
    return {name: escape_name(value) for name, value in facts.items()}
