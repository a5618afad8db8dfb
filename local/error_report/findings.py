"""Find the errors of one network on a test set, at the thresholds in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.error_analysis import (
    ErrorCounts,
    EventVerdicts,
    boundary_errors,
    count_errors,
    judge_events,
    wrong_seconds,
)
from desed_task.evaluation.scores import (
    Detections,
    Floats,
    Ints,
    as_detections,
    detect,
    match_clips,
)
from desed_task.postprocess import Threshold, class_thresholds
from local.data.truth import Truth
from local.task.corpus import Corpus

MOST_WORST_CLIPS = 10


@dataclass(frozen=True)
class FoundErrors:
    """The errors of one network on a test set.

    Attributes:
        role: "student" or "teacher".
        corpus: of the clips.
        scores: what events are detected in: filtered scores or boxes of the scored clips, for the
            classes that the set is annotated with.
        thresholds: (class,) scores above them are detections.
        duration_s: (clip,) seconds.
        truth: the true events.
        found: the detections that begin before their clip ends, which metrics of psds_eval count.
        verdicts: what became of both.
        counts: the verdicts, counted per class.
        onset_error_s: (true event,) detected minus true onset; NaN where none is compared.
        offset_error_s: (true event,) the same of offsets.
        missed_s: (clip,) seconds of true events outside detections of their class, all classes.
        false_s: (clip,) seconds of detections outside true events of their class, all classes.
        n_left_out: listed clips without events, which were not scored.
        n_unscored: other listed clips without scores.
    """

    role: str
    corpus: Corpus
    scores: Decoded
    thresholds: Floats
    duration_s: Floats
    truth: Detections
    found: Detections
    verdicts: EventVerdicts
    counts: ErrorCounts
    onset_error_s: Floats
    offset_error_s: Floats
    missed_s: Floats
    false_s: Floats
    n_left_out: int = 0
    n_unscored: int = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that label indices count."""
        return self.scores.vocabulary.labels

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """The clips that clip indices count."""
        return self.scores.clip_ids

    @property
    def wrong_s(self) -> Floats:
        """(clip,) seconds that are labelled wrongly, missed and false ones of all classes."""
        wrong_s: Floats = self.missed_s + self.false_s
        return wrong_s

    def worst_clips(self, n_clips: int = MOST_WORST_CLIPS) -> Ints:
        """Clips with most wrongly labelled seconds, the worst first; only those with any.

        Of equal ones, the first by name.
        """
        names = np.argsort(np.argsort(self.clip_ids))
        order = np.lexsort((names, -np.round(self.wrong_s, 6)))
        return order[self.wrong_s[order] > 0][:n_clips]


def find_errors(
    scores: Decoded, truth: Truth, labels: Sequence[str], threshold: Threshold, *, role: str
) -> FoundErrors:
    """Compare the detections of a network with the truth.

    Args:
        scores: what events of a corpus are detected in.
        truth: its truth.
        labels: the classes that the corpus is annotated with; others cannot be judged.
        threshold: one for all classes, or label -> threshold; those of classes that the corpus
            does not have are left out.
        role: the network.

    Raises:
        InputError: clips lack truth or scores are not finite.
    """
    scores, events, n_unscored = match_clips(scores, truth.certain)
    events = events.within(truth.durations).merged()
    scores = scores.select(labels=labels)
    if isinstance(threshold, Mapping):
        threshold = {label: one for label, one in threshold.items() if label in labels}
    thresholds = class_thresholds(threshold, labels)
    duration_s = np.array([truth.durations[clip_id] for clip_id in scores.clip_ids])
    true = as_detections(events, scores.vocabulary)
    found = detect(scores, thresholds).within(duration_s)
    verdicts = judge_events(found, true, len(labels))
    onset_error_s, offset_error_s = boundary_errors(verdicts, found, true)
    # What lies in the padding after a short clip's end does not make the clip worse.
    found_inside, true_inside = (
        replace(of, offset_s=np.minimum(of.offset_s, duration_s[of.clip_index]))
        for of in (found, true)
    )
    missed_s, false_s = wrong_seconds(found_inside, true_inside, len(scores.clip_ids))
    return FoundErrors(
        role,
        truth.part.corpus,
        scores,
        thresholds,
        duration_s,
        true,
        found,
        verdicts,
        count_errors(verdicts, found, true, len(labels)),
        onset_error_s,
        offset_error_s,
        missed_s,
        false_s,
        len(truth.left_out),
        n_unscored,
    )
