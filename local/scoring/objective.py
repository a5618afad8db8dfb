"""The validation metric that selects the best checkpoint (docs/method.md, Validation)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from desed_task.errors import InputError
from local.schema.task import ScoreKind
from local.task.task import Task

# Kind -> figure of a description's `objective` -> its metric, with the package that defines it.
METRICS: Final[dict[ScoreKind, dict[str, str]]] = {
    "tags": {"f1": "weak_f1_macro_thres05/torchmetrics"},
    "events": {
        "intersection": "intersection_f1_macro_thres05/sed_scores_eval",
        "collar": "collar_f1_macro_thres05/sed_scores_eval",
        "psds": "psds1/sed_scores_eval",
    },
    "segments": {
        "fmo": "segment_f1_macro_thresopt/sed_scores_eval",
        "mauc": "segment_mauc/sed_scores_eval",
        "mpauc": "segment_mpauc/sed_scores_eval",
    },
}


def obj_metric(metrics: Mapping[str, float], task: Task) -> float:
    """Sum of the validation metrics of the student that the task's objective names.

    Args:
        metrics: metrics of a validation by full name.
        task: gives the objective.

    Raises:
        InputError: one of them is undefined on the validation data.
    """
    names = {one.kind: f"val/student/{METRICS[one.kind][one.figure]}" for one in task.objective}
    undefined = [kind for kind, name in names.items() if math.isnan(metrics[name])]
    if undefined:
        told = ", ".join(names[kind] for kind in undefined)
        raise InputError(
            f"{told} cannot be computed, so the best checkpoint cannot be chosen: "
            + "; ".join(_causes(task, undefined))
        )
    return sum(metrics[name] for name in names.values())


def _causes(task: Task, undefined: list[ScoreKind]) -> Iterator[str]:
    """Why figures are undefined, and what helps."""
    for kind in undefined:
        part = task.part("val", kind)
        assert part is not None, kind
        if kind == "segments":
            yield (
                "in the validation data no class is absent from any segment; set "
                f"task.objective.segments to fmo, or correct {part.corpus.table_key}"
            )
        else:
            yield (
                f"no scored class occurs in the validation data of {part.corpus.title}; remove "
                f"task.objective.{kind}, or correct {part.corpus.table_key}"
            )
