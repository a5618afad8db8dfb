"""Write the page of a recording: one file, which a browser opens from disk.

    write_page(Path("street.html"), PageContent(name="street.wav", ...))

All that it needs is inside: the program (`assets/*.js`), scores as base64, spectrogram, and the
sound or a link to it. Its content security policy allows no other program and no request, so that
a name in it, whatever it contains, is a text.
"""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import write_text_atomic
from desed_task.file_names import escape_name
from desed_task.inference.detector import SoundEvent
from local.predict.pages.content import PageContent
from local.predict.pages.document import data_block, document
from local.predict.pages.mel_picture import mel_png, tick_places
from local.predict.pages.summaries import summary_text

SCRIPTS = (
    *("numbers.js", "events.js", "exports.js", "drawing.js", "player.js"),
    *("page.js", "row.js", "controls.js"),
)


def write_page(path: Path, content: PageContent) -> None:
    """Write a page, atomically.

    Args:
        path: the file, NAME.html.
        content: what it shows.
    """
    counts = Counter(event.label for event in content.events)
    sound = content.sound.embedded
    stem = escape_name(path.name.removesuffix(".html"))
    parts = {
        "title": html.escape(content.name),
        "picture": base64.b64encode(mel_png(content.mel)).decode(),
        "data": data_block("data", {"stem": stem, **_facts(content)}),
        "scores": base64.b64encode(_by_class(content.scores)).decode(),
        "sound": "" if sound is None else base64.b64encode(sound).decode(),
        "summary": summary_text(content.name, content.duration_s, counts),
    }
    write_text_atomic(path, document("page", SCRIPTS, parts))


def _facts(content: PageContent) -> dict[str, Any]:
    """What the page's program starts from; classes by their number."""
    labels = list(content.labels)
    rules, sound = content.rules, content.sound
    facts: dict[str, Any] = {
        "name": content.name,
        "duration_s": content.duration_s,
        "labels": labels,
        "thresholds": [float(content.thresholds[label]) for label in labels],
        "boundaries": _boundaries(content.boundaries_s),
        "n_frames": len(content.scores),
        "double": content.scores.dtype == np.float64,
        "boxes": None if content.boxes is None else _events(content.boxes, labels),
        "low": _by_label(rules.low, labels),
        "merge_gap_s": _by_label(rules.merge_gap_s, labels),
        "min_duration_s": _by_label(rules.min_duration_s, labels),
        "merged": [
            {"label": label, "members": [labels.index(member) for member in members]}
            for label, members in rules.merged.items()
        ],
        "calibration": [rules.calibration.get(label) for label in labels],
        "truth": None,
        "mel": {
            "end_s": content.mel.decibel.shape[1] * content.mel.column_s,
            "ticks": tick_places(content.mel),
        },
        "sound": {"type": sound.type, "urls": list(sound.urls), "note": sound.note},
        "facts": list(content.facts.items()),
    }
    if content.truth is not None:
        facts["truth"] = {
            "events": _events(content.truth.events, labels),
            "detection_overlap": content.truth.detection_overlap,
            "truth_overlap": content.truth.truth_overlap,
        }
    return facts


def _by_class(scores: NDArray[np.floating]) -> bytes:
    """Scores class by class, little-endian."""
    kind = "<f8" if scores.dtype == np.float64 else "<f4"
    return np.ascontiguousarray(scores.T).astype(kind).tobytes()


def _by_label(values: Mapping[str, float], labels: Sequence[str]) -> list[float | None]:
    return [None if label not in values else float(values[label]) for label in labels]


def _events(events: Sequence[SoundEvent], labels: Sequence[str]) -> list[list[float]]:
    numbers = {label: number for number, label in enumerate(labels)}
    return [
        [numbers[event.label], event.onset_s, event.offset_s, float(event.confidence)]
        for event in events
    ]


def _boundaries(boundaries_s: NDArray[np.float64]) -> dict[str, Any]:
    """Frame boundaries by a rule, where it gives them to the last bit; else all of them."""
    rate_hz = round(1 / boundaries_s[1], 9) if len(boundaries_s) > 2 else 0.0
    if rate_hz > 0:
        frames = np.arange(len(boundaries_s))
        if np.array_equal(np.minimum(frames / rate_hz, boundaries_s[-1]), boundaries_s):
            return {"rate_hz": rate_hz, "end_s": float(boundaries_s[-1])}
    return {"seconds": [float(seconds) for seconds in boundaries_s]}
