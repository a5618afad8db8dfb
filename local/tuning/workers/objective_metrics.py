"""The metrics that the tuner's objective is the sum of."""

from __future__ import annotations

from typing import Final

from desed_task.errors import InputError
from local.schema.task import ScoreKind
from local.task.task import Stage, Task

# Kind of scores -> metric of the teacher, without its stage.
METRICS: Final[dict[ScoreKind, str]] = {
    "events": "teacher/psds1/sed_scores_eval",
    "segments": "teacher/segment_mpauc/sed_scores_eval",
}
_TAGS: Final[dict[Stage, str]] = {
    "val": "teacher/weak_f1_macro_thres05/torchmetrics",
    "test": "teacher/tag_f1_macro_thres05/desed_task",
}


def objective_metrics(task: Task, stage: Stage) -> dict[ScoreKind, str]:
    """Kind of scores -> metric that counts, without its stage: events and segments, or tags alone.

    Raises:
        InputError: the stage scores nothing.
    """
    kinds = [part.kind for part in task.scored(stage)]
    found = {kind: name for kind, name in METRICS.items() if kind in kinds}
    if not found and "tags" in kinds:
        return {"tags": _TAGS[stage]}
    if not found:
        which = "validations score" if stage == "val" else "tests score"
        raise InputError(
            f"task {task.name}: {which} nothing, so that there is no objective; name a corpus in "
            f"task.scored, e.g. events: {{{'validation' if stage == 'val' else stage}: NAME}}"
        )
    return found
