"""The page of a recording that `predict.py` processes: what it needs is collected on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from desed_task.file_names import escape_name
from desed_task.inference.detector import DetectionResult
from local.predict.mel_image import MelImage
from local.predict.pages import EMBEDDED_MB
from local.predict.pages.content import MEL_COLUMNS, PageContent, PageRules
from local.predict.pages.page import write_page
from local.predict.pages.sound import SoundCopy, needs_copy, sound_of


class RecordingPage:
    """What the page of a recording needs besides what is detected, collected while it is read.

    Args:
        recording: the file.
        log_mel: arguments of `MelImage`.
        rate_hz: sample rate of the blocks.
        embedded_mb: size up to which its sound is a part of the page.
        rules: how events follow from scores.
    """

    def __init__(
        self,
        recording: Path,
        log_mel: dict[str, Any],
        rate_hz: int,
        *,
        embedded_mb: float = EMBEDDED_MB,
        rules: PageRules | None = None,
    ) -> None:
        self._recording, self._embedded_mb = recording, embedded_mb
        self._mel = MelImage(log_mel, most_columns=MEL_COLUMNS)
        self._copy = SoundCopy(rate_hz, embedded_mb * 1e6) if needs_copy(recording) else None
        self._rules = rules or PageRules()

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
        facts = {name: escape_name(str(made_by[name])) for name in _SHOWN if name in made_by}
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
            rules=self._rules,
            facts=facts,
        )
        write_page(path, content)


_SHOWN = ("checkpoint", "model", "decoder")
