"""Metrics of one-second segments, for student and teacher (docs/method.md, Validation, Test)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from desed_task.dataio.annotations import EventTable
from desed_task.evaluation import fscores, segments
from desed_task.evaluation.scores import (
    Floats,
    Scores,
    as_detections,
    check_durations,
    detect,
    match_clips,
)
from local.data.truth import Stage, Truth, no_event_remedy, scored_classes
from local.schema.published_keys import SEGMENT_TABLES
from local.scoring.own.criteria import F1_THRESHOLD, MAX_FPR, OWN
from local.scoring.own.metrics import add_segment_metrics
from local.scoring.report import (
    CorpusMetrics,
    MetricTable,
    format_error_rate,
    format_segment_scores,
)

SEGMENTS_FILE, DECISIONS_FILE = "segments.txt", "segment_decisions.txt"


def segment_metrics(scores: Scores, truth: Truth, *, stage: Stage, role: str) -> CorpusMetrics:
    """One-second segment metrics over the scored classes (docs/method.md, Test).

    A test averages the frames of a segment and, of clips that were cut from recordings, the
    overlapping clips of a recording. A validation takes the maximum of the frames in a segment, on
    each clip with an event of a scored class, up to the clip's end; the published code stops at its
    last event. A test of other clips has F1 and error rate of decisions, too.

    Args:
        scores: post-processed scores of clips in the truth.
        truth: of the segments part, soft labels as confidence.
        stage: "val" or "test".
        role: "student" or "teacher".

    Raises:
        InputError: clips lack truth or duration, scores are not finite, or the truth has no event
            of a scored class.
    """
    part = segment_part(scores, truth, stage)
    pieces, labels = part.segments(part.scores), part.scores.vocabulary.labels
    found = segments.segment_scores(pieces, labels, max_fpr=MAX_FPR)
    table = MetricTable(stage, role, truth.part.classes)
    for name, value, per_class in (
        ("segment_f1_macro_thresopt", found.f1, found.f1_per_class),
        ("segment_mauc", found.auc, found.auc_per_class),
        ("segment_mpauc", found.partial_auc, found.partial_auc_per_class),
    ):
        table.put(name, "sed_scores_eval", value, per_class)
    name = SEGMENT_TABLES.get(truth.part.corpus.scores_stem, SEGMENTS_FILE)
    texts = {name: format_segment_scores(found)}
    if stage == "test":
        add_segment_metrics(table, pieces, labels)
        if not part.by_recording:
            texts[DECISIONS_FILE] = _add_decisions(table, part)
    return CorpusMetrics(
        truth.part,
        table.metrics,
        table.per_class,
        part.not_scored,
        texts=texts,
        n_clips=len(part.scores.clip_ids),
        unscored_clips=part.unscored_clips,
    )


class SegmentPart(NamedTuple):
    """Input of the segment metrics.

    Attributes:
        stage: "val" or "test", which determines how segments are made.
        scores: scores of the chosen clips, for the classes that occur.
        events: events above the confidence threshold, by recording or by clip.
        durations: recording or clip -> seconds.
        not_scored: classes that do not occur.
        unscored_clips: number of clips with truth but without scores.
        by_recording: whether clips that were cut from recordings are joined again.
    """

    stage: Stage
    scores: Scores
    events: EventTable
    durations: Mapping[str, float]
    not_scored: tuple[str, ...]
    unscored_clips: int
    by_recording: bool

    @property
    def duration_s(self) -> Floats:
        """(unit,) seconds of the recordings or clips."""
        return np.array([self.durations[name] for name in self.events.clip_ids], dtype=np.float64)

    def metrics(self, scores: Scores) -> segments.SegmentScores:
        """Segment metrics of `self.scores` or of a post-processed version of them.

        Args:
            scores: scores of the same clips, for some of the classes.
        """
        pieces = self.segments(scores)
        return segments.segment_scores(pieces, scores.vocabulary.labels, max_fpr=MAX_FPR)

    def segments(self, scores: Scores) -> segments.Segments:
        """Segments of `self.scores` or of a post-processed version of them."""
        truth = as_detections(self.events, scores.vocabulary)
        if self.stage == "val":
            return segments.clip_segments(scores, truth, self.duration_s)
        pieces = self.means(scores)
        whole = [pieces[name] for name in self.events.clip_ids]
        return segments.recording_segments(whole, truth, self.duration_s)

    def means(self, scores: Scores) -> dict[str, Floats]:
        """Recording or clip -> (segment, class), as a test takes them; `scores` as above."""
        if self.by_recording:
            return segments.overlap_add(scores, self.durations)
        means = segments.clip_means(scores, self.duration_s)
        return dict(zip(scores.clip_ids, means, strict=True))


def segment_part(scores: Scores, truth: Truth, stage: Stage) -> SegmentPart:
    """Choose clips, events and classes for segment metrics; arguments as of `segment_metrics`.

    Raises:
        InputError: see `segment_metrics`.
    """
    durations, classes = truth.durations, truth.part.classes
    by_recording = stage == "test" and truth.part.corpus.cut_from_recordings
    scores, events, unscored = match_clips(scores, truth.certain)
    # An event of a recording is listed in every clip that covers it.
    whole = segments.on_recordings(events).joined() if by_recording else events.merged()
    check_durations(whole.clip_ids, durations)
    whole = whole.within(durations)
    if not by_recording:
        # The part of longer clips that was not read is not scored.
        read_s = np.ceil(scores.end_s)
        durations = {
            clip_id: min(durations[clip_id], float(end_s))
            for clip_id, end_s in zip(whole.clip_ids, read_s, strict=True)
        }
        whole = whole.rows(whole.onset_s < read_s[whole.clip_index])
    if stage == "val":
        whole = _with_scored_events(whole, classes)
        scores = scores.select(whole.clip_ids)
    labels, not_scored = scored_classes(whole, classes, no_event_remedy(truth.part, stage))
    return SegmentPart(
        stage, scores.select(labels=labels), whole, durations, not_scored, unscored, by_recording
    )


def _with_scored_events(events: EventTable, classes: Sequence[str]) -> EventTable:
    """Clips with an event of a scored class; all if there are none, which raises an error later."""
    scored = np.flatnonzero(events.vocabulary.mask(classes))
    clips = np.unique(events.clip_index[np.isin(events.label_index, scored)])
    return events.select([events.clip_ids[index] for index in clips]) if len(clips) else events


def _add_decisions(table: MetricTable, part: SegmentPart) -> str:
    """Add micro F1 and error rate of decisions at a threshold; return a text table of them.

    A class is detected in each segment that a run of its frames above the threshold reaches into.
    """
    labels, duration_s = part.scores.vocabulary.labels, part.duration_s
    found, truth = (
        # What lies in the padding of a short clip is no segment of it.
        replace(of, offset_s=np.minimum(of.offset_s, duration_s[of.clip_index]))
        for of in (
            detect(part.scores, F1_THRESHOLD).within(duration_s),
            as_detections(part.events, part.scores.vocabulary),
        )
    )
    score = fscores.segment_fscore(found, truth, labels, segment_s=segments.SEGMENT_S)
    errors = fscores.segment_error_rate(found, truth, labels, segment_s=segments.SEGMENT_S)
    table.put("segment_f1_micro_thres05", OWN, score.micro, score.per_class)
    table.put("segment_error_rate_thres05", OWN, errors.rate, errors.per_class)
    title = f"Segment-based F1 and error rate, 1 s segments, threshold {F1_THRESHOLD}"
    return format_error_rate(title, score, errors)
