"""Write a recording's events (tables, JSON, labels), scores, timeline and page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from desed_task.atomic_files import atomic_path, write_json_atomic, write_text_atomic
from desed_task.file_names import escape_name
from desed_task.inference.detector import DetectionResult
from desed_task.postprocess.calibration import MEAN_SCORE
from desed_task.postprocess.event_rules import NO_RULES, EventRules
from local.predict.event_table import EVENT_COLUMNS
from local.predict.pages.recording_page import RecordingPage
from local.predict.result_names import ENDINGS
from local.predict.timeline import MelImage, plot_timeline
from local.scoring import figures


class Prediction(NamedTuple):
    """A recording and its detection result."""

    path: Path
    found: DetectionResult
    limits: Mapping[str, float]  # label -> threshold
    mel: MelImage | None
    made_by: Mapping[str, Any]  # checkpoint, network, hop, rules: for the JSON
    rules: EventRules = NO_RULES
    page: RecordingPage | None = None


def write_events(path: Path, prediction: Prediction) -> None:
    """Write the usual columns (tab-separated, times in seconds) and each event's confidence."""
    lines = ["\t".join(EVENT_COLUMNS)]
    for event in prediction.found.events:
        times = f"{event.onset_s:.3f}\t{event.offset_s:.3f}"
        row = (escape_name(prediction.path.name), times, event.label, f"{event.confidence:.4f}")
        lines.append("\t".join(row))
    write_text_atomic(path, "\n".join(lines) + "\n")


def write_json(path: Path, prediction: Prediction) -> None:
    """Write the events and the settings of the detection.

    Events whose confidence is calibrated have their mean score, too.
    """
    found = prediction.found
    calibrated = found.confidence_is != MEAN_SCORE
    means = found.mean_scores if calibrated else [event.confidence for event in found.events]
    events = [
        {
            "onset_s": round(event.onset_s, 3),
            "offset_s": round(event.offset_s, 3),
            "label": event.label,
            "confidence": round(event.confidence, 4),
            **({"mean_score": round(mean, 4)} if calibrated else {}),
        }
        for event, mean in zip(found.events, means, strict=True)
    ]
    content = {
        "recording": escape_name(prediction.path),
        "duration_s": round(found.duration_s, 4),
        **prediction.made_by,
        "thresholds": dict(prediction.limits),
        "confidence_is": found.confidence_is,
        "events": events,
    }
    write_json_atomic(path, content)


def write_labels(path: Path, prediction: Prediction) -> None:
    """Write an Audacity label track: onset, offset, and class and confidence, tab-separated.

    Audacity has no column for the confidence, so it is the last word of the label: `Dog 0.93`.
    """
    rows = (
        f"{event.onset_s:.6f}\t{event.offset_s:.6f}\t{event.label} {event.confidence:.2f}\n"
        for event in prediction.found.events
    )
    write_text_atomic(path, "".join(rows))


def write_rttm(path: Path, prediction: Prediction) -> None:
    """Write Rich Transcription Time Marked lines, one per event, with ten fields.

    The class is in the field of the speaker, as tools read no other. Fields are separated by
    spaces, so each space in a name or class becomes an underscore.
    """
    name = _rttm_field(escape_name(prediction.path.with_suffix("").name))
    rows = (
        f"SPEAKER {name} 1 {event.onset_s:.3f} {event.offset_s - event.onset_s:.3f} <NA> <NA> "
        f"{_rttm_field(event.label)} {event.confidence:.4f} <NA>\n"
        for event in prediction.found.events
    )
    write_text_atomic(path, "".join(rows))


def _rttm_field(text: str) -> str:
    return re.sub(r"\s", "_", text)


def write_score_table(path: Path, prediction: Prediction) -> None:
    """Write post-processed scores: onset, offset (seconds), and one column per class."""
    found = prediction.found
    times = np.stack([found.boundaries_s[:-1], found.boundaries_s[1:]], axis=1)
    with atomic_path(path) as temporary:
        np.savetxt(
            temporary,
            np.concatenate([times, found.scores], axis=1),
            fmt=["%.4f", "%.4f", *["%.6f"] * len(found.labels)],
            delimiter="\t",
            header="\t".join(["onset", "offset", *found.labels]),
            comments="",
        )


def write_score_arrays(path: Path, prediction: Prediction) -> None:
    """Write arrays: unprocessed and postprocessed (frame, class), event_labels, boundaries_s."""
    found = prediction.found
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            unprocessed=found.unprocessed,
            postprocessed=found.scores,
            event_labels=np.array(found.labels),
            boundaries_s=found.boundaries_s,
        )


def write_timeline(path: Path, prediction: Prediction) -> None:
    """Write the figure of `local.predict.timeline`."""
    assert prediction.mel is not None
    figure = plot_timeline(
        prediction.found,
        prediction.mel,
        prediction.limits,
        title=escape_name(prediction.path.name),
        rules=prediction.rules,
    )
    figures.save_figure(figure, path)


def write_html(path: Path, prediction: Prediction) -> None:
    """Write the page of `local.predict.pages`."""
    assert prediction.page is not None
    prediction.page.write(path, prediction.found, prediction.limits, prediction.made_by)


class Format(NamedTuple):
    """A file's ending and the function that writes it."""

    ending: str
    write: Callable[[Path, Prediction], None]


_WRITERS = {
    "tsv": write_events,
    "json": write_json,
    "txt": write_labels,
    "png": write_timeline,
    "rttm": write_rttm,
    "scores": write_score_table,
    "npz": write_score_arrays,
    "html": write_html,
}
FORMATS = {name: Format(ending, _WRITERS[name]) for name, ending in ENDINGS.items()}
