"""The objective of candidates on a part of the data.

A class's candidate changes the curve of that class alone, so a curve is computed once per class
and candidate; any combination of candidates is then a matter of milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.exact_psds import exact_psds
from desed_task.evaluation.psds import PSDS1, Roc, psds_of_rocs
from desed_task.evaluation.scores import as_detections, clips_with_events, match_clips
from local.classes_dict import DESED_CLASSES
from local.data.truth import scored_classes
from local.scoring import metrics
from local.tuning.cached_scores import TeacherScores
from local.tuning.decoders.candidates import ClassDecoder, filtered_class, order_of
from local.tuning.trial import OBJECTIVE_METRICS


class ObjectiveValue(NamedTuple):
    """The objective of candidates on a part."""

    psds1: float
    mpauc: float

    @property
    def total(self) -> float:
        """The objective."""
        return self.psds1 + self.mpauc


class DecoderObjective:
    """Compute PSDS1 of candidates, and partial areas of median filters, on a part of the data.

    Args:
        part: its unfiltered scores and ground truths.
        decode: decodes one class of these scores.
        known: (class, `order_of` a candidate) -> a curve that was computed before.
    """

    def __init__(
        self, part: TeacherScores, decode: ClassDecoder, known: Mapping[Any, Roc] | None = None
    ) -> None:
        self.part, self._decode, self._known = part, decode, known or {}
        desed = part.truths[0]
        scores, events, _ = match_clips(part.desed, desed.events)
        events = events.within(desed.durations).merged()
        self.desed_labels, self.absent_labels = scored_classes(events, DESED_CLASSES)
        chosen = scores.select(labels=self.desed_labels)
        # Clips with events only, as in the score-based metrics.
        clips = clips_with_events(events, chosen.vocabulary)
        self._desed, self._events = chosen.select(clips), events.select(clips)
        self._dataset_s = sum(desed.durations[clip_id] for clip_id in clips)
        self._rocs: dict[tuple[str, Any], Roc] = {}
        self._areas: dict[tuple[str, int], float] = {}
        self.n_computed = 0

    @property
    def curves(self) -> Mapping[tuple[str, Any], Roc]:
        """The PSD-ROCs that were asked for, by class and candidate."""
        return self._rocs

    @cached_property
    def _segments(self) -> metrics.SegmentPart:
        maestro, part = self.part.truths[1], self.part
        return metrics.segment_part(part.maestro, maestro.events, maestro.durations, part.stage)

    @property
    def maestro_labels(self) -> tuple[str, ...]:
        """Classes that have a partial area.

        Raises:
            InputError: if no class of MAESTRO has an event.
        """
        return self._segments.scores.vocabulary.labels

    def facts(self, value: ObjectiveValue) -> dict[str, float]:
        """Return it by the names of the metrics."""
        return {f"{self.part.stage}/{n}": v for n, v in zip(OBJECTIVE_METRICS, value, strict=True)}

    def decoded(self, label: str, candidate: Any) -> Decoded:
        """A DESED class of the clips with events, decoded with a candidate."""
        return self._decode(self._desed.select(labels=[label]), candidate)

    def roc(self, label: str, candidate: Any) -> Roc:
        """PSD-ROC of a DESED class."""
        stored = self._known.get((label, order_of(candidate))) if self._known else None
        if stored is not None:
            self._rocs[label, candidate] = stored
        if (label, candidate) not in self._rocs:
            self.n_computed += 1
            decoded = self.decoded(label, candidate)
            truth = as_detections(self._events, decoded.vocabulary)
            psds = exact_psds(decoded, truth, dataset_s=self._dataset_s, spec=PSDS1)
            self._rocs[label, candidate] = psds.class_rocs[label]
        return self._rocs[label, candidate]

    def psds1(self, of: Mapping[str, Any]) -> float:
        """PSDS1 of a candidate for each DESED class."""
        return psds_of_rocs([self.roc(label, one) for label, one in of.items()], [*of], PSDS1).value

    def area(self, label: str, length: int) -> float:
        """Partial AUC of a MAESTRO class, filtered with a length."""
        if (label, length) not in self._areas:
            chosen = self._segments.scores.select(labels=[label])
            found = self._segments.metrics(filtered_class(chosen, length))
            self._areas[label, length] = found.partial_auc_per_class[label]
        return self._areas[label, length]

    def value(self, of: Mapping[str, Any], lengths: Mapping[str, int]) -> ObjectiveValue:
        """The objective.

        Args:
            of: DESED class -> candidate; classes that do not occur are ignored.
            lengths: MAESTRO class -> length of its median filter, likewise.
        """
        areas = [self.area(label, lengths[label]) for label in self.maestro_labels]
        psds1 = self.psds1({label: of[label] for label in self.desed_labels})
        return ObjectiveValue(psds1, float(np.nanmean(areas)) if areas else float("nan"))

    def alone(self, label: str, candidate: Any) -> float:
        """Value of a candidate for its class alone: PSDS1, or partial AUC of a MAESTRO class."""
        if label not in self.desed_labels and label in self.maestro_labels:
            return self.area(label, candidate)
        return psds_of_rocs([self.roc(label, candidate)], [label], PSDS1).value
