"""Plot a recording's timeline: mel spectrogram, then one row of scores and events per class.

Events are those detected and, if they are known, those annotated.

    save_figure(plot_timeline(found, mel, limits, title="street.wav"), path)

It is readable from seconds to hours: events shorter than a pixel are drawn one pixel wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from desed_task.errors import count_of
from desed_task.inference.detector import DetectionResult, SoundEvent
from desed_task.inference.overlap_add import ScoreRows
from desed_task.postprocess.event_rules import NO_RULES, EventRules
from local.pictures import palette
from local.pictures.labels import LONGEST_OF_PANEL, short_label
from local.predict.mel_image import MelImage
from local.scoring.figures import EVENT_BAR, SCORE_HEIGHT

# Bottom and height of the bars in a row of height 1, if there are annotated events, too.
DETECTED_BAR, ANNOTATED_BAR = (0.66, 0.13), (0.82, 0.13)
# A class without an event has a row if it comes this close to its threshold.
NEAR = 0.5
# Of more classes, those that come closest to their thresholds or exceed them most have rows.
MOST_ROWS = 40
WIDTH_IN = 13.0
MEL_IN, ROW_IN, REST_IN = 2.2, 0.42, 1.4
MAX_POINTS = 1500
MAX_TICKS = 12
DECIBELS_SHOWN = 70.0
KILOHERTZ = (0.2, 0.5, 1, 2, 4, 8, 16)
STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


def plot_timeline(
    found: DetectionResult,
    mel: MelImage,
    limits: Mapping[str, float],
    *,
    title: str,
    truth: Sequence[SoundEvent] | None = None,
    rules: EventRules = NO_RULES,
) -> Figure:
    """Plot the detection result of a recording below its spectrogram.

    Args:
        found: the detection result.
        mel: the mel spectrogram.
        limits: label -> threshold, drawn as a line in each row.
        title: title of the plot.
        truth: annotated events; None if they are unknown.
        rules: rules of the events. Merged classes share one row, with the highest of their scores
            and, if they are the same, their thresholds. Those of hysteresis are drawn, too.
    """
    rows = _rows_of(found, limits, rules)
    labels = _shown(rows, truth or ())
    heights = [MEL_IN, ROW_IN * max(len(labels), 1)]
    figure = Figure(figsize=(WIDTH_IN, sum(heights) + REST_IN), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    _draw_mel(above, mel, found.duration_s)
    counted = f"{count_of(len(found.events), 'event')} in {duration_text(found.duration_s)}"
    if truth is not None:
        counted = f"{count_of(len(truth), 'event')} annotated, {len(found.events)} detected"
    above.set_title(f"{title}   {counted}")
    for place, label in enumerate(reversed(labels)):
        _draw_scores(below, place, found.boundaries_s, rows[label])
        bar = EVENT_BAR if truth is None else DETECTED_BAR
        _draw_events(below, place, bar, palette.DETECTED, _of_class(found.events, label))
        if truth is not None:
            _draw_events(below, place, ANNOTATED_BAR, palette.ANNOTATED, _of_class(truth, label))
    below.set(xlim=(0, found.duration_s), ylim=(0, max(len(labels), 1)))
    names = [short_label(label, LONGEST_OF_PANEL) for label in reversed(labels)]
    below.set_yticks(np.arange(len(labels)) + 0.45, names)
    below.tick_params(axis="y", length=0)
    _label_times(below, found.duration_s)
    _explain(figure, rows, labels, annotated=truth is not None)
    return figure


class _Row(NamedTuple):
    """A class, or several that are merged."""

    scores: ScoreRows  # (frame,)
    limit: float  # the lowest of its thresholds
    drawn: tuple[float, ...]  # thresholds that all of its classes have

    @property
    def excess(self) -> float:
        """How far its highest score is above the threshold, if positive."""
        return float(self.scores.max()) - self.limit

    @property
    def is_near(self) -> bool:
        """Whether it comes close to its threshold."""
        return bool(self.scores.max() > NEAR * self.limit)


def _rows_of(
    found: DetectionResult, limits: Mapping[str, float], rules: EventRules
) -> dict[str, _Row]:
    """Rows by label, a merged class in the place of its first one."""
    both = {label: {limits[label]} for label in found.labels}
    if rules.low_threshold is not None:
        low = rules.of_classes(found.labels, limits).low
        both = {label: {limits[label], float(low[n])} for n, label in enumerate(found.labels)}
    merged = rules.merged_classes
    home = {member: label for label, members in merged.items() for member in members}
    members: dict[str, list[str]] = {}
    for label in found.labels:
        members.setdefault(home.get(label, label), []).append(label)
    rows = {}
    for label, own in members.items():
        scores = found.scores[:, [found.labels.index(one) for one in own]].max(axis=1)
        shared = set.intersection(*(both[one] for one in own))
        rows[label] = _Row(scores, min(limits[one] for one in own), tuple(shared))
    return rows


def _shown(rows: Mapping[str, _Row], truth: Sequence[SoundEvent]) -> list[str]:
    """Classes with events or scores near the threshold, in the order of the classes."""
    annotated = {event.label for event in truth}
    near = [label for label, row in rows.items() if label in annotated or row.is_near]
    # Annotated ones first, then by how far a score is above its threshold.
    first = sorted(near, key=lambda one: (one not in annotated, -rows[one].excess))[:MOST_ROWS]
    return [label for label in near if label in first]


def _of_class(events: Sequence[SoundEvent], label: str) -> list[SoundEvent]:
    return [event for event in events if event.label == label]


def _draw_mel(axes: Axes, mel: MelImage, duration_s: float) -> None:
    decibel = mel.decibel
    top = max(float(decibel.max()), DECIBELS_SHOWN - 50.0)  # silence remains dark
    axes.imshow(
        decibel,
        origin="lower",
        aspect="auto",
        cmap="magma",
        interpolation="nearest",
        extent=(0, decibel.shape[1] * mel.column_s, 0, len(decibel)),
        vmin=top - DECIBELS_SHOWN,
        vmax=top,
    )
    axes.set(xlim=(0, duration_s), ylabel="kHz")
    shown = [khz for khz in KILOHERTZ if khz * 1000 <= mel.highest_hz]
    axes.set_yticks(mel.bands_of(1000 * np.array(shown)), [f"{khz:g}" for khz in shown])
    axes.tick_params(labelbottom=False)


def _draw_scores(axes: Axes, place: int, boundaries_s: NDArray[np.float64], row: _Row) -> None:
    """Plot a class's scores as a step curve in its row, with maxima over many frames."""
    scores = row.scores
    step = -(-len(scores) // MAX_POINTS)
    highest = np.maximum.reduceat(scores, np.arange(0, len(scores), step)).astype(float)
    edges_s: NDArray[np.float64] = np.append(boundaries_s[:-1:step], boundaries_s[-1])
    height = place + np.repeat(highest, 2) * SCORE_HEIGHT
    axes.fill_between(
        np.repeat(edges_s, 2)[1:-1], place, height, color=palette.SCORE, alpha=0.75, linewidth=0
    )
    for limit in row.drawn:
        height_of_limit = place + limit * SCORE_HEIGHT
        axes.axhline(height_of_limit, color=palette.THRESHOLD, linewidth=0.7, linestyle=":")
    axes.axhline(place, color="black", linewidth=0.4)


def _draw_events(
    axes: Axes, place: int, bar: tuple[float, float], colour: str, events: list[SoundEvent]
) -> None:
    spans = [(event.onset_s, event.offset_s - event.onset_s) for event in events]
    # The outline keeps short events of a long recording in sight.
    style = {"facecolor": colour, "edgecolor": colour, "linewidth": 0.7}
    axes.broken_barh(spans, (place + bar[0], bar[1]), **style)


def _label_times(axes: Axes, duration_s: float) -> None:
    step_s = next((s for s in STEPS_S if duration_s / s <= MAX_TICKS), STEPS_S[-1])
    ticks_s = np.arange(0, duration_s + 1e-9, step_s)
    if duration_s < 60:
        unit, texts = "seconds", [f"{t:.{int(step_s < 1)}f}" for t in ticks_s]
    elif duration_s < 3600:
        unit, texts = "min:s", [_pair(t) for t in ticks_s]
    else:
        unit, texts = "h:min", [_pair(t / 60) for t in ticks_s]
    axes.set_xticks(ticks_s, texts)
    axes.set_xlabel(unit)


def _pair(units: float) -> str:
    """Split seconds into minutes and seconds, or minutes into hours and minutes."""
    large, small = divmod(round(units), 60)
    return f"{large}:{small:02d}"


def duration_text(seconds: float) -> str:
    """Format a duration: 12.5 s, 3 min 5 s, 1 h 2 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def _explain(
    figure: Figure, rows: Mapping[str, _Row], shown: Sequence[str], *, annotated: bool
) -> None:
    """Add a legend of the colours and a note on omitted classes."""
    keys = [Patch(color=palette.ANNOTATED, label="annotated")] if annotated else []
    keys += [
        Patch(color=palette.DETECTED, label="detected" if annotated else "event"),
        Patch(color=palette.SCORE, alpha=0.75, label="score"),
        Line2D([], [], color=palette.THRESHOLD, linestyle=":", label="threshold"),
    ]
    hidden = [row for label, row in rows.items() if label not in shown]
    n_left_out = sum(row.is_near for row in hidden)
    if n_hidden := len(hidden) - n_left_out:
        text = (
            f"{count_of(n_hidden, 'class', 'classes')} not shown: never above half their threshold"
        )
        keys.append(Line2D([], [], linestyle="none", label=text))
    if n_left_out:
        n_with_events = sum(row.excess > 0 for row in hidden)
        left = count_of(n_left_out, "class", "classes")
        text = f"{left} left out, {n_with_events} of them with scores above their threshold"
        keys.append(Line2D([], [], linestyle="none", label=text))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
