"""Metrics of one network on one corpus, and text tables of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from desed_task.evaluation.curves.precision_recall import BestF1
from desed_task.evaluation.curves.tagging import TagCounts
from desed_task.evaluation.fscores import ErrorRate, FScore
from desed_task.evaluation.psds import Psds
from desed_task.evaluation.scores import Floats
from desed_task.evaluation.segments import SegmentScores
from local.task.task import ScoredPart


@dataclass(frozen=True)
class CorpusMetrics:
    """Metrics of one network on one corpus, of one kind.

    Attributes:
        part: the kind, the corpus and the classes.
        metrics: full name -> value.
        per_class: full name -> class -> value; None if the class is not scored or has no value
            (psds_eval's F-score without a true positive, an AUC without a negative segment).
        not_scored: classes without events in the truth, which are left out of means.
        curves: name of a PSDS -> its curves.
        texts: file name -> text table.
        n_clips: number of scored clips.
        unscored_clips: number of clips with truth but without scores, which are left out.
        groups: for results.json, which clips were grouped, and which groups have no metrics; empty
            if none were.
    """

    part: ScoredPart
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float | None]]
    not_scored: tuple[str, ...] = ()
    curves: dict[str, Psds] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    n_clips: int = 0
    unscored_clips: int = 0
    groups: dict[str, Any] = field(default_factory=dict)


class MetricTable:
    """Collects metrics under their full names.

    Args:
        stage: "val" or "test".
        role: "student" or "teacher".
        classes: classes listed in per-class tables.
    """

    def __init__(self, stage: str, role: str, classes: Sequence[str]) -> None:
        self.prefix = f"{stage}/{role}"
        self.classes = classes
        self.metrics: dict[str, float] = {}
        self.per_class: dict[str, dict[str, float | None]] = {}

    def put(self, name: str, package: str, value: float, per_class: Mapping[str, float]) -> None:
        """Add a metric of `package` with its values per class; NaN becomes None."""
        full = f"{self.prefix}/{name}/{package}"
        self.metrics[full] = float(value)
        self.per_class[full] = {label: _none_if_nan(per_class.get(label)) for label in self.classes}


def _none_if_nan(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def format_fscore(title: str, score: FScore) -> str:
    """Macro and micro F-score, and one line per class with its counts."""
    rows = [
        (
            label,
            f1,
            score.true_positives[label],
            score.false_positives[label],
            score.references[label] - score.true_positives[label],
        )
        for label, f1 in score.per_class.items()
    ]
    heading = f"{title}\nmacro {score.macro:.4f}   micro {score.micro:.4f}\n\n"
    return heading + _format_table(("event label", "F1", "TP", "FP", "FN"), rows)


def format_error_rate(title: str, score: FScore, errors: ErrorRate) -> str:
    """F1 and error rate of all classes, and one line per class."""
    rows = [
        (
            label,
            f1,
            errors.per_class[label],
            score.true_positives[label],
            score.false_positives[label],
            score.references[label] - score.true_positives[label],
        )
        for label, f1 in score.per_class.items()
    ]
    heading = (
        f"{title}\nmicro F1 {score.micro:.4f}   error rate {errors.rate:.4f} (substitutions "
        f"{errors.substitutions}, deletions {errors.deletions}, insertions {errors.insertions}, "
        f"of {errors.references} active)\n\n"
    )
    return heading + _format_table(("event label", "F1", "ER", "TP", "FP", "FN"), rows)


def format_segment_scores(score: SegmentScores) -> str:
    """One line per class: F1 at its best threshold, areas, and that threshold."""
    rows = [
        (
            label,
            score.f1_per_class[label],
            score.auc_per_class[label],
            score.partial_auc_per_class[label],
            threshold,
        )
        for label, threshold in score.threshold_per_class.items()
    ]
    return _format_table(("event label", "best F1", "AUC", "pAUC", "threshold"), rows)


def format_tags(
    labels: Sequence[str],
    counts: TagCounts,
    precision: Floats,
    ranking: Floats,
    threshold: float,
) -> str:
    """One line per class: F1 and counts at a threshold, average precision, ranking precision.

    Args:
        labels: the classes.
        counts: at the threshold.
        precision: (class,) average precision.
        ranking: (class,) label-ranking average precision.
        threshold: of F1 and counts.
    """
    missed = counts.references - counts.true_positives
    columns = (counts.f1, precision, ranking, *counts[:2], missed)
    rows = zip(labels, *(column.tolist() for column in columns), strict=True)
    heading = (
        f"Tags of clips, threshold {threshold} of F1\nmacro {counts.f1.mean():.4f}   micro "
        f"{counts.micro_f1:.4f}\n\n"
    )
    head = ("event label", "F1", "AP", "lwlrap", "TP", "FP", "FN")
    return heading + _format_table(head, rows)


def format_best_f1(found: Mapping[str, Mapping[str, BestF1]], threshold: float) -> str:
    """One line per class: its best F1 and the threshold, for each kind of F1.

    Args:
        found: kind -> class -> best F1.
        threshold: of the F-scores that are not an oracle's.
    """
    rows = [
        (label, *(value for of_kind in found.values() for value in of_kind[label]))
        for label in next(iter(found.values()))
    ]
    head = [text for kind in found for text in (f"{kind} F1", "threshold")]
    return (
        "Oracle: thresholds chosen on the clips that are scored, so each F1 is an upper bound of "
        f"what a threshold of a class could give; F1 at {threshold} is in the other tables\n\n"
        + _format_table(("event label", *head), rows)
    )


def _format_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Align columns: the first to the left, the others to the right."""
    cells = [head, *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return str(value)
