"""The objective of candidates on a part of the data.

A class's candidate changes the curve of that class alone, so a curve is computed once per class
and candidate; any combination of candidates is then a matter of milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.exact_psds import exact_psds
from desed_task.evaluation.psds import PSDS1, Roc, psds_of_rocs
from desed_task.evaluation.scores import Scores, as_detections, clips_with_events, match_clips
from local.data.truth import scored_classes
from local.scoring.segment_metrics import SegmentPart, segment_part
from local.tuning.cached_scores import TeacherScores
from local.tuning.decoders.candidates import ClassDecoder, filtered_class, order_of
from local.tuning.workers.objective_metrics import METRICS

_STAGES = {"val": "validations", "test": "tests"}


class ObjectiveValue(NamedTuple):
    """The objective of candidates on a part.

    Attributes:
        psds1: of events; None for a task that scores none.
        mpauc: mean partial AUC of segments; None for a task that scores none.
    """

    psds1: float | None
    mpauc: float | None

    @property
    def total(self) -> float:
        """The objective."""
        return sum(value for value in self if value is not None)


class _Events(NamedTuple):
    """Scores and truth of the clips with events, of the classes that occur."""

    scores: Scores
    events: EventTable
    dataset_s: float


class DecoderObjective:
    """Compute PSDS1 of candidates, and partial areas of median filters, on a part of the data.

    Args:
        part: its unfiltered scores and ground truths.
        decode: decodes one class of these scores.
        known: (class, `order_of` a candidate) -> a curve that was computed before.

    Raises:
        InputError: the part has neither events nor segments, or no event of a scored class.
    """

    def __init__(
        self, part: TeacherScores, decode: ClassDecoder, known: Mapping[Any, Roc] | None = None
    ) -> None:
        self.part, self._decode, self._known = part, decode, known or {}
        self.event_labels: tuple[str, ...] = ()
        self.absent_labels: tuple[str, ...] = ()
        self._events: _Events | None = None
        if not part.truths:
            raise InputError(
                f"the task scores neither events nor segments in its {_STAGES[part.stage]}, so "
                "that nothing can be tuned there"
            )
        if (found := part.of("events")) is not None:
            scores, truth = found
            scores, events, _ = match_clips(scores, truth.certain)
            events = events.within(truth.durations).merged()
            self.event_labels, self.absent_labels = scored_classes(events, truth.part.classes)
            chosen = scores.select(labels=self.event_labels)
            # Clips with events only, as in the score-based metrics.
            clips = clips_with_events(events, chosen.vocabulary)
            dataset_s = sum(truth.durations[clip_id] for clip_id in clips)
            self._events = _Events(chosen.select(clips), events.select(clips), dataset_s)
        self._rocs: dict[tuple[str, Any], Roc] = {}
        self._areas: dict[tuple[str, int], float] = {}
        self.n_computed = 0

    @property
    def curves(self) -> Mapping[tuple[str, Any], Roc]:
        """The PSD-ROCs that were asked for, by class and candidate."""
        return self._rocs

    @cached_property
    def _segments(self) -> SegmentPart | None:
        found = self.part.of("segments")
        return None if found is None else segment_part(*found, self.part.stage)

    @property
    def segment_labels(self) -> tuple[str, ...]:
        """Classes that have a partial area; none if no segments are scored.

        Raises:
            InputError: segments are scored, and no class has an event in them.
        """
        return () if self._segments is None else self._segments.scores.vocabulary.labels

    def facts(self, value: ObjectiveValue) -> dict[str, float]:
        """Return it by the names of the metrics."""
        of_kinds = zip(METRICS.values(), value, strict=True)
        return {f"{self.part.stage}/{name}": one for name, one in of_kinds if one is not None}

    def decoded(self, label: str, candidate: Any) -> Decoded:
        """A class of the clips with events, decoded with a candidate."""
        assert self._events is not None, label
        return self._decode(self._events.scores.select(labels=[label]), candidate)

    def roc(self, label: str, candidate: Any) -> Roc:
        """PSD-ROC of a class that is scored in events."""
        stored = self._known.get((label, order_of(candidate))) if self._known else None
        if stored is not None:
            self._rocs[label, candidate] = stored
        if (label, candidate) not in self._rocs:
            assert self._events is not None, label
            self.n_computed += 1
            decoded = self.decoded(label, candidate)
            truth = as_detections(self._events.events, decoded.vocabulary)
            psds = exact_psds(decoded, truth, dataset_s=self._events.dataset_s, spec=PSDS1)
            self._rocs[label, candidate] = psds.class_rocs[label]
        return self._rocs[label, candidate]

    def psds1(self, of: Mapping[str, Any]) -> float:
        """PSDS1 of a candidate for each class that occurs in the events."""
        return psds_of_rocs([self.roc(label, one) for label, one in of.items()], [*of], PSDS1).value

    def area(self, label: str, length: int) -> float:
        """Partial AUC of a class that is scored in segments, filtered with a length."""
        if (label, length) not in self._areas:
            assert self._segments is not None, label
            chosen = self._segments.scores.select(labels=[label])
            found = self._segments.metrics(filtered_class(chosen, length))
            self._areas[label, length] = found.partial_auc_per_class[label]
        return self._areas[label, length]

    def value(self, of: Mapping[str, Any], lengths: Mapping[str, int]) -> ObjectiveValue:
        """The objective.

        Args:
            of: class -> candidate; classes that do not occur in events are ignored.
            lengths: class -> length of its median filter; classes without segments are ignored.
        """
        psds1 = mpauc = None
        if self._segments is not None:
            areas = [self.area(label, lengths[label]) for label in self.segment_labels]
            mpauc = float(np.nanmean(areas)) if areas else float("nan")
        if self._events is not None:
            psds1 = self.psds1({label: of[label] for label in self.event_labels})
        return ObjectiveValue(psds1, mpauc)

    def alone(self, label: str, candidate: Any) -> float:
        """Value of a candidate for its class alone: PSDS1, or partial AUC of a class that is scored
        in segments only."""
        if label not in self.event_labels and label in self.segment_labels:
            return self.area(label, candidate)
        return psds_of_rocs([self.roc(label, candidate)], [label], PSDS1).value
