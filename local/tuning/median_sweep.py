"""Compute the objective of median filter lengths, and find the best lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from local.tuning.cached_scores import TeacherScores
from local.tuning.decoders.ascent import best_candidates
from local.tuning.decoders.candidates import filtered_class
from local.tuning.decoders.objective import DecoderObjective, ObjectiveValue

Lengths = tuple[int, ...]  # frames, one per class


class MedianFilterObjective(DecoderObjective):
    """Compute the objective of lengths on a part of the data.

    Args:
        part: its unfiltered scores and ground truths.
    """

    def __init__(self, part: TeacherScores) -> None:
        super().__init__(part, filtered_class)
        self.classes = part.scores[0].vocabulary.labels

    def __call__(self, lengths: Sequence[int]) -> ObjectiveValue:
        """Return the teacher's PSDS1 and mean pAUC for these lengths, one per class of the task."""
        of = dict(zip(self.classes, lengths, strict=True))
        return self.value(of, of)


def sweep_lengths(
    objective: MedianFilterObjective, start: Sequence[int], candidates: Mapping[str, Sequence[int]]
) -> Lengths:
    """Find the best lengths by trying all candidates of all classes.

    Mean pAUC is the mean over classes, so each class's best length is the best. PSDS1 also
    subtracts how far classes lie apart: see `best_candidates`. A class that is scored in both gets
    the length for its events.

    Args:
        objective: objective of the part that is tuned on.
        start: lengths, one per class of the task; a class without candidates keeps its own.
        candidates: class -> lengths to try.
    """
    of = dict(zip(objective.classes, start, strict=True))
    of.update(best_segment_lengths(objective, of, candidates))
    of.update(best_candidates(objective, of, candidates))
    return tuple(of[label] for label in objective.classes)


def best_segment_lengths(
    objective: DecoderObjective, of: Mapping[str, int], candidates: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """The best length of each class that has a partial area.

    Args:
        objective: objective of the part that is tuned on.
        of: class -> its length so far.
        candidates: class -> lengths to try.
    """
    found = {}
    for label in objective.segment_labels:
        areas = {n: objective.area(label, n) for n in (of[label], *candidates.get(label, ()))}
        if not all(np.isnan(value) for value in areas.values()):
            found[label] = max(areas, key=lambda n: areas[n])
    return found
