"""One picture of several clips: annotated and detected events over the scores of their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from desed_task.errors import count_of
from desed_task.evaluation.scores import Detections, Floats
from desed_task.file_names import escape_name, shorten_name
from local.error_report.findings import FoundErrors
from local.error_report.pictures import LEFT_IN, RIGHT_IN, TOP_IN, WIDTH_IN
from local.pictures import palette
from local.pictures.labels import short_label
from local.predict.timeline import ANNOTATED_BAR, DETECTED_BAR, MAX_POINTS
from local.scoring.figures import SCORE_HEIGHT

# Rows of a clip.
MOST_ROWS = 6
ROW_IN, GAP_IN, BOTTOM_IN = 0.36, 0.6, 0.1
_LONGEST_TITLE = 60
# Misses and false alarms, as on the pages of clips.
WRONG: dict[str, Any] = {"facecolor": "white", "hatch": "//////"}


def plot_worst_clips(errors: FoundErrors, clips: list[int]) -> Figure:
    """Plot clips below each other, at least one; each is as wide as the picture.

    Args:
        errors: the errors.
        clips: indices of the clips.
    """
    shown = [_classes_of(errors, clip) for clip in clips]
    heights = [ROW_IN * max(len(rows), 1) for rows, _ in shown]
    whole_in = TOP_IN + sum(heights) + GAP_IN * len(clips) + BOTTOM_IN
    figure = Figure(figsize=(WIDTH_IN, whole_in))
    top_in = whole_in - TOP_IN
    for clip, (rows, n_hidden), height_in in zip(clips, shown, heights, strict=True):
        top_in -= height_in
        # By hand, as a layout engine draws everything several times.
        place = (
            LEFT_IN / WIDTH_IN,
            top_in / whole_in,
            1 - (LEFT_IN + RIGHT_IN) / WIDTH_IN,
            height_in / whole_in,
        )
        _draw_clip(figure.add_axes(place), errors, clip, rows, n_hidden)
        top_in -= GAP_IN
    keys = [
        Patch(color=palette.ANNOTATED, label="annotated, hit"),
        Patch(edgecolor=palette.ANNOTATED, label="missed", **WRONG),
        Patch(color=palette.DETECTED, label="detected, right"),
        Patch(edgecolor=palette.DETECTED, label="false alarm", **WRONG),
        Patch(color=palette.SCORE, alpha=0.75, label="score"),
    ]
    figure.legend(handles=keys, loc="lower center", ncols=len(keys), frameon=False)
    return figure


def _classes_of(errors: FoundErrors, clip: int) -> tuple[list[int], int]:
    """The classes with events in a clip, in their order, and how many more there are.

    Shown are those with the longest misses and false alarms, then those with the longest events.
    """
    wrong_s, whole_s = np.zeros((2, len(errors.labels)))
    for of, right in (
        (errors.truth, errors.verdicts.hit),
        (errors.found, errors.verdicts.right),
    ):
        for seconds, chosen in ((whole_s, right | True), (wrong_s, ~right)):
            mine = of.rows(chosen & (of.clip_index == clip))
            np.add.at(seconds, mine.label_index, mine.offset_s - mine.onset_s)
    there = np.flatnonzero(whole_s)
    most = there[np.lexsort((-whole_s[there], -wrong_s[there]))][:MOST_ROWS]
    return sorted(most.tolist()), len(there) - len(most)


def _draw_clip(axes: Axes, errors: FoundErrors, clip: int, rows: list[int], n_hidden: int) -> None:
    """Draw a clip; what has one colour in all its rows is one collection, which is fast."""
    end_s = float(errors.duration_s[clip])
    values, boundaries_s = errors.scores.of(errors.clip_ids[clip])
    # Of many frames, the highest of each few.
    starts = np.arange(0, len(values), -(-len(values) // MAX_POINTS))
    values = np.maximum.reduceat(values, starts)
    edges_s = np.repeat([*boundaries_s[starts], boundaries_s[-1]], 2)
    places = np.arange(len(rows))[::-1]
    scores = []
    for place, label in zip(places, rows, strict=True):
        heights = place + np.repeat(values[:, label].astype(np.float64), 2) * SCORE_HEIGHT
        scores.append(np.stack([edges_s, [place, *heights, place]], axis=1))
    _fill(axes, scores, facecolor=palette.SCORE, alpha=0.75, linewidth=0)
    limits = places + errors.thresholds[rows] * SCORE_HEIGHT
    axes.hlines(limits, 0, end_s, palette.THRESHOLD, linewidth=0.7, linestyle=":")
    axes.hlines(places, 0, end_s, "black", linewidth=0.4)
    for of, right, (bottom, height), colour in (
        (errors.found, errors.verdicts.right, DETECTED_BAR, palette.DETECTED),
        (errors.truth, errors.verdicts.hit, ANNOTATED_BAR, palette.ANNOTATED),
    ):
        for chosen, style in ((right, {"facecolor": colour}), (~right, WRONG)):
            bars = [
                np.array([(on, low), (on, low + height), (off, low + height), (off, low)])
                for label, on, off in _events_of(of.rows(chosen), clip)
                if label in rows
                for low in (places[rows.index(label)] + bottom,)
            ]
            # The outline keeps short events of a long clip in sight.
            _fill(axes, bars, edgecolor=colour, linewidth=0.7, **style)
    name = shorten_name(escape_name(errors.clip_ids[clip]), _LONGEST_TITLE)
    title = f"{name}   {wrong_text(errors, clip)}"
    if n_hidden:
        title += f" ({count_of(n_hidden, 'more class', 'more classes')} not shown)"
    axes.set(xlim=(0, end_s), ylim=(0, max(len(rows), 1)))
    axes.set_title(title, loc="left", fontsize="medium")
    labels = [short_label(errors.labels[label]) for label in reversed(rows)]
    axes.set_yticks(np.arange(len(rows)) + 0.45, labels)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize="small")


def _fill(axes: Axes, outlines: list[Floats], **style: Any) -> None:
    if outlines:
        axes.add_collection(PolyCollection(outlines, **style), autolim=False)


def _events_of(of: Detections, clip: int) -> list[tuple[int, float, float]]:
    """Class, onset and offset of the events of a clip."""
    mine = of.rows(of.clip_index == clip)
    columns = (mine.label_index, mine.onset_s, mine.offset_s)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def wrong_text(errors: FoundErrors, clip: int) -> str:
    """The seconds of a clip that are labelled wrongly."""
    missed_s, false_s = float(errors.missed_s[clip]), float(errors.false_s[clip])
    return f"{missed_s + false_s:.2f} s wrong: {missed_s:.2f} s missed, {false_s:.2f} s false"
