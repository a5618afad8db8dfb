"""Pictures of results: PSD-ROC curves, and events over scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from desed_task.dataio.annotations import Events
from desed_task.evaluation.psds import Psds, Roc
from desed_task.evaluation.scores import Floats
from desed_task.files import atomic_path

# A class is shown in an event roll if it has an event or scores at least this once.
VISIBLE_SCORE = 0.3
LEAST_ROWS = 3


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; it appears whole."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def psd_roc(psds: Psds, *, title: str, max_efpr: float = 100.0) -> Figure:
    """The effective PSD-ROC curve over those of the classes."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for number, (label, roc) in enumerate(psds.class_rocs.items()):
        x, y = _steps(roc, max_efpr)
        name = f"{label} ({psds.per_class[label]:.2f})"
        axes.plot(x, y, color=f"C{number % 10}", linewidth=1, alpha=0.7, label=name)
    x, y = _steps(psds.roc, max_efpr)
    axes.plot(x, y, color="black", linewidth=2.5, label=f"all ({psds.value:.3f})")
    axes.fill_between(x, y, color="black", alpha=0.08, linewidth=0)
    axes.set(
        xlim=(0, max_efpr),
        ylim=(0, 1.01),
        xlabel="effective false positives per hour",
        ylabel="(effective) true positive rate",
        title=title,
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    return figure


def _steps(roc: Roc, max_efpr: float) -> tuple[Floats, Floats]:
    """Corners of a staircase from 0 to `max_efpr`; infinite rates end it."""
    kept = roc.efpr < max_efpr
    edges = np.append(np.concatenate([[0.0], roc.efpr[kept]]), max_efpr)
    rates = np.concatenate([[0.0], roc.tpr[kept]])
    return np.repeat(edges, 2)[1:-1], np.repeat(rates, 2)


def event_roll(
    scores: npt.NDArray[np.floating],
    boundaries_s: Floats,
    events: Events,
    labels: Sequence[str],
    *,
    title: str,
    threshold: float = 0.5,
) -> Figure:
    """True events as bars above each class's scores, for the classes that matter in a clip.

    Args:
        scores: (frame, class) of one clip.
        boundaries_s: (frame + 1,) seconds.
        events: onset_s, offset_s, label_index, confidence of the clip.
        labels: classes, in the order of the score columns.
        title: the clip and the network.
        threshold: drawn as a line in each row.
    """
    rows = _rows_shown(scores, events)
    figure = Figure(figsize=(9, 1.2 + 0.62 * len(rows)), layout="constrained")
    axes = figure.subplots()
    edges = np.repeat(boundaries_s, 2)[1:-1]
    for place, label in enumerate(rows):
        base = len(rows) - 1 - place
        height = np.repeat(scores[:, label].astype(float), 2) * 0.62
        axes.fill_between(edges, base, base + height, color="C0", alpha=0.75, linewidth=0)
        line_at = base + threshold * 0.62
        axes.axhline(line_at, color="grey", linewidth=0.6, linestyle=":")
        axes.axhline(base, color="black", linewidth=0.4)
        for onset_s, offset_s, index, confidence in zip(*events, strict=True):
            if index == label:
                bar = [(float(onset_s), float(offset_s - onset_s))]
                axes.broken_barh(
                    bar, (base + 0.68, 0.22), color="C1", alpha=0.25 + 0.75 * float(confidence)
                )
    axes.set(
        xlim=(boundaries_s[0], boundaries_s[-1]),
        ylim=(0, len(rows)),
        xlabel="seconds",
        title=f"{title}\norange: annotated, blue: score (dotted: {threshold})",
    )
    axes.set_yticks(np.arange(len(rows)) + 0.45, [labels[label] for label in reversed(rows)])
    axes.tick_params(axis="y", length=0)
    return figure


def _rows_shown(scores: npt.NDArray[np.floating], events: Events) -> list[int]:
    """Classes with events or with visible scores; the highest ones where there are few."""
    best = scores.max(axis=0)
    shown = set(np.unique(events[2]).tolist()) | set(np.flatnonzero(best >= VISIBLE_SCORE).tolist())
    for label in np.argsort(-best):
        if len(shown) >= LEAST_ROWS:
            break
        shown.add(int(label))
    return sorted(shown)
