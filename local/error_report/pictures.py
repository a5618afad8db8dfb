"""Pictures of errors: shares per class, confusions, histograms of onset and offset errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from desed_task.errors import count_of
from desed_task.evaluation.scores import Floats, Ints
from local.error_report.findings import FoundErrors
from local.error_report.tables import (
    CAUSES,
    ERROR_EDGES_S,
    class_rows,
    errors_of,
    histogram,
    total_row,
)
from local.pictures import palette
from local.pictures.labels import short_label

COLOURS = (palette.RIGHT, palette.INEXACT, palette.CONFUSED, palette.NOTHING_THERE)
# Inches; by hand, as a layout engine draws a figure several times.
WIDTH_IN = 13.0
LEFT_IN, GAP_IN, RIGHT_IN, TOP_IN, BOTTOM_IN = 2.5, 0.3, 0.15, 0.4, 0.95
BAR_IN, HISTOGRAM_IN, CELL_IN = 0.34, 0.46, 0.36
_BAR = 0.72
NOTHING = "nothing"
# Of more classes, those with the most errors are drawn; the tables have all.
MOST_DRAWN = 40


def drawn_classes(errors: FoundErrors) -> list[int]:
    """The classes that pictures show, by index: all, or of many those with the most errors."""
    if len(errors.labels) <= MOST_DRAWN:
        return list(range(len(errors.labels)))
    counts = errors.counts
    wrong = counts.misses.sum(axis=1) + counts.false_alarms.sum(axis=1)
    most = np.argsort(-wrong, kind="stable")[:MOST_DRAWN]
    return sorted(int(index) for index in most if wrong[index] or counts.events[index])


def _of_many(errors: FoundErrors, drawn: Sequence[int]) -> str:
    """What a title adds where some classes are not drawn."""
    left_out = len(errors.labels) - len(drawn)
    total = count_of(len(errors.labels), "class", "classes")
    return f" ({len(drawn)} of {total})" if left_out else ""


def plot_classes(errors: FoundErrors) -> Figure:
    """Plot which part of each class's events was found, and which part of its detections is right.

    What is neither is coloured by its cause.
    """
    drawn, of_all = drawn_classes(errors), class_rows(errors)
    rows = [*(of_all[index] for index in drawn), total_row(errors)]
    labels = [short_label(row.label) for row in rows]
    figure, (left, right) = _two_panels(BAR_IN * len(rows))
    _draw_shares(left, [(row.hits, *row.missed) for row in rows])
    _draw_shares(right, [(row.right, *row.false) for row in rows])
    left.set_title(f"true events: hits, and misses by cause{_of_many(errors, drawn)}")
    right.set_title("detections: right ones, and false alarms by cause")
    left.set_yticks(np.arange(len(rows)), labels)
    keys = [Patch(color=palette.RIGHT, label="hit, or right")]
    keys += [
        Patch(color=colour, label=cause) for colour, cause in zip(COLOURS[1:], CAUSES, strict=True)
    ]
    figure.legend(handles=keys, loc="lower center", ncols=len(keys), frameon=False)
    return figure


def _two_panels(height_in: float) -> tuple[Figure, tuple[Axes, Axes]]:
    """A figure with two axes of that height beside each other, with room for classes at the left.

    The right one has no labels of its own.
    """
    whole_in = height_in + TOP_IN + BOTTOM_IN
    figure = Figure(figsize=(WIDTH_IN, whole_in))
    width_in = (WIDTH_IN - LEFT_IN - GAP_IN - RIGHT_IN) / 2
    bottom, height = BOTTOM_IN / whole_in, height_in / whole_in
    left, right = (
        figure.add_axes((begin_in / WIDTH_IN, bottom, width_in / WIDTH_IN, height))
        for begin_in in (LEFT_IN, LEFT_IN + width_in + GAP_IN)
    )
    right.set_yticks([])
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, (left, right)


def _draw_shares(axes: Axes, counts: Sequence[tuple[int, ...]]) -> None:
    """Draw a bar per class, in the parts of its counts, with their numbers in it."""
    values = np.array(counts, dtype=np.float64)
    totals = values.sum(axis=1)
    shares = 100 * values / np.maximum(totals, 1)[:, None]
    begin = np.cumsum(shares, axis=1) - shares
    rows = np.arange(len(values))
    for part, colour in enumerate(COLOURS):
        axes.barh(rows, shares[:, part], _BAR, left=begin[:, part], color=colour)
        for row in np.flatnonzero(shares[:, part] >= 4):
            dark = "black" if part == 0 else "white"
            place = begin[row, part] + shares[row, part] / 2
            text = f"{counts[row][part]}"
            axes.text(place, row, text, ha="center", va="center", color=dark, fontsize="small")
    for row, total in enumerate(totals):
        text = f"{int(total)}" if total else "none"
        axes.text(101, row, text, va="center", fontsize="small", color=palette.THRESHOLD)
    axes.set(xlim=(0, 112), ylim=(len(values) - 0.4, -0.6), xlabel="%")
    axes.set_xticks([0, 25, 50, 75, 100])


def plot_confusions(errors: FoundErrors) -> Figure:
    """Plot what was detected where events were missed, and annotated where detections are false."""
    drawn = drawn_classes(errors)
    labels = [short_label(errors.labels[index]) for index in drawn]
    n_classes = len(labels)
    # Wide enough for the titles.
    side_in = max(CELL_IN * (n_classes + 1), 3.6)
    # Room for slanted labels below, and at the left of both.
    under_in = 0.35 + 0.055 * max(map(len, [*labels, NOTHING]))
    width_in, height_in = 2 * (side_in + LEFT_IN), side_in + TOP_IN + under_in
    figure = Figure(figsize=(width_in, height_in))
    left, right = (
        figure.add_axes(
            (begin_in / width_in, under_in / height_in, side_in / width_in, side_in / height_in)
        )
        for begin_in in (LEFT_IN - RIGHT_IN, 2 * LEFT_IN + side_in - RIGHT_IN)
    )
    _draw_confusions(left, errors.counts.misses, drawn, labels)
    _draw_confusions(right, errors.counts.false_alarms, drawn, labels)
    left.set_title(f"misses: what was detected there{_of_many(errors, drawn)}")
    right.set_title("false alarms: what is annotated there")
    return figure


def _draw_confusions(axes: Axes, counts: Ints, drawn: Sequence[int], labels: Sequence[str]) -> None:
    """Draw counts as shades of their share of the row; the diagonal is inexact."""
    shares = counts / np.maximum(counts.sum(axis=1), 1)[:, None]
    shown = np.ix_(drawn, [*drawn, counts.shape[1] - 1])
    counts, shares = counts[shown], shares[shown]
    axes.imshow(shares, cmap=palette.AGES, vmin=0, vmax=1, aspect="auto")
    size = "small" if len(labels) <= 12 else "xx-small"
    for row, column in np.argwhere(counts):
        dark = "white" if shares[row, column] > 0.6 else "black"
        text = f"{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=dark, fontsize=size)
    axes.axvline(len(labels) - 0.5, color="black", linewidth=0.8)
    axes.set_yticks(np.arange(len(labels)), labels, fontsize=size)
    axes.set_xticks(
        np.arange(len(labels) + 1),
        [*labels, NOTHING],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
        fontsize=size,
    )
    axes.tick_params(length=0)


def plot_boundaries(errors: FoundErrors) -> Figure:
    """Plot histograms of onset and offset errors, of each class and of all."""
    label = errors.truth.label_index
    drawn = drawn_classes(errors)
    chosen = [label == index for index in drawn]
    chosen.append(np.ones(len(label), dtype=np.bool_))
    names = [*(short_label(errors.labels[index]) for index in drawn), "all classes"]
    figure, panels = _two_panels(HISTOGRAM_IN * len(names))
    for axes, error_s, what in zip(
        panels,
        (errors.onset_error_s, errors.offset_error_s),
        ("onset", "offset"),
        strict=True,
    ):
        for place, of in enumerate(reversed(chosen)):
            _draw_histogram(axes, place, errors_of(error_s, of))
        axes.axvline(0, color=palette.THRESHOLD, linewidth=0.8, linestyle=":", zorder=3)
        low, high = ERROR_EDGES_S[[0, -1]]
        # With room for a text at the right.
        axes.set(xlim=(low, high + 0.28 * (high - low)), ylim=(0, len(names)))
        axes.set_title(f"{what}: detected minus annotated")
        axes.set_xlabel("seconds; negative: too early; the outer bars also hold what is beyond")
        axes.set_xticks(np.arange(-2, 3))
    panels[0].set_yticks(np.arange(len(names)) + 0.3, list(reversed(names)))
    return figure


def _draw_histogram(axes: Axes, place: int, error_s: Floats) -> None:
    """Draw a histogram as bars in a row, its median as a line, and its number of events."""
    axes.axhline(place, color="black", linewidth=0.4)
    at = {"va": "center", "fontsize": "small", "color": palette.THRESHOLD}
    right_s = ERROR_EDGES_S[-1] + 0.1
    if not len(error_s):
        axes.text(right_s, place + 0.35, "none", **at)
        return
    counts = np.array(histogram(error_s), dtype=np.float64)
    edges = np.repeat(ERROR_EDGES_S, 2)[1:-1]
    height = place + 0.86 * np.repeat(counts / counts.max(), 2)
    axes.fill_between(edges, place, height, color=palette.DETECTED, alpha=0.75, linewidth=0)
    median_s = float(np.median(error_s))
    shown = float(np.clip(median_s, *ERROR_EDGES_S[[0, -1]]))
    axes.plot([shown, shown], [place, place + 0.9], color="black", linewidth=1.2)
    axes.text(right_s, place + 0.35, f"{signed(median_s)} s ({len(error_s)})", **at)


def signed(seconds: float) -> str:
    """Seconds with their sign, of which 0 has none."""
    text = f"{seconds:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text
