"""F-scores and segment scores as tables to read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from desed_task.evaluation.fscores import FScore
from desed_task.evaluation.segments import SegmentScores


def fscore_text(title: str, score: FScore) -> str:
    """Macro and micro F-score, and a line a class with its counts."""
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
    return heading + _table(("event label", "F1", "TP", "FP", "FN"), rows)


def segment_text(score: SegmentScores) -> str:
    """A line a class: F1 at its best threshold, areas, and that threshold."""
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
    return _table(("event label", "best F1", "AUC", "pAUC", "threshold"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns under their heads: the first to the left, numbers to the right."""
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
