"""The validation metric that selects the best checkpoint (docs/method.md, Validation)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from desed_task.errors import InputError

SYNTH_METRICS = {
    "intersection": "intersection_f1_macro_thres05",
    "collar": "collar_f1_macro_thres05",
    "psds": "psds1",
}
MAESTRO_METRICS = {
    "fmo": "segment_f1_macro_thresopt",
    "mauc": "segment_mauc",
    "mpauc": "segment_mpauc",
}


def obj_metric(metrics: Mapping[str, float], *, synth_type: str, maestro_type: str) -> float:
    """Sum of three validation metrics of the student.

    Args:
        metrics: metrics of a validation by full name.
        synth_type: intersection, collar or psds.
        maestro_type: fmo, mauc or mpauc.

    Raises:
        InputError: one of the three is undefined on the validation data.
    """
    names = (
        "val/student/weak_f1_macro_thres05/torchmetrics",
        f"val/student/{SYNTH_METRICS[synth_type]}/sed_scores_eval",
        f"val/student/{MAESTRO_METRICS[maestro_type]}/sed_scores_eval",
    )
    undefined = [name for name in names if math.isnan(metrics[name])]
    if undefined:
        raise InputError(
            f"{', '.join(undefined)} cannot be computed, so the best checkpoint cannot be chosen: "
            "in the validation data no class is absent from any segment; set "
            "training.obj_metric_maestro_type to fmo, or correct data.real_maestro_train_tsv"
        )
    return sum(metrics[name] for name in names)
