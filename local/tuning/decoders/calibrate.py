"""Fit calibrated confidence on a part of the data, and tell what it gains there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from desed_task.atomic_files import write_text_atomic
from desed_task.evaluation.scores import as_detections, match_clips
from desed_task.postprocess.calibration_quality import CalibrationRow, fit_and_measure
from local.tuning.decoders.candidates import decoded_events
from local.tuning.decoders.fit import Fit, own_thresholds
from local.tuning.decoders.flags import CALIBRATION_FILE
from local.tuning.decoders.parts import Part


def calibrated(kind: str, best: Fit, part: Part, folder: Path) -> dict[str, Any]:
    """The calibration of the events of the part's clips, at the thresholds in force.

    Args:
        kind: "isotonic" or "temperature".
        best: decodes the clips.
        part: held-out clips.
        folder: receives a table of what it gains, cross-fitted over the clips.

    Raises:
        InputError: if there is no event to fit to.
    """
    scores, truth = part.events
    decoded = decoded_events(best.config, scores)
    chosen, events, _ = match_clips(decoded, truth.certain)
    events = events.within(truth.durations).merged()
    thresholds = best.thresholds or own_thresholds(best.config)
    limits = np.array([thresholds[label] for label in decoded.vocabulary])
    found = fit_and_measure(
        chosen,
        as_detections(events, chosen.vocabulary),
        limits,
        chosen.clip_ids,
        kind=kind,
        decoder=best.config.decoder.kind,
    )
    print(f"calibration: {found.calibration}")
    whole = found.rows[0]
    print(
        "expected calibration error of held-out clips, cross-fitted: "
        f"{whole.error:.4f} before, {whole.calibrated_error:.4f} after"
    )
    write_text_atomic(folder / CALIBRATION_FILE, _table(found.rows))
    return found.calibration.to_plain()


def _table(rows: list[CalibrationRow]) -> str:
    lines = ["\t".join(("event_label", *CalibrationRow._fields[1:]))]
    for row in rows:
        values = ("" if math.isnan(one) else f"{one:.6g}" for one in row[1:])
        lines.append("\t".join((row.label or "all", *values)))
    return "\n".join(lines) + "\n"
