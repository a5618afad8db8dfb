"""Figures of results: PSD-ROC curves, and events over scores."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from desed_task.atomic_files import atomic_path
from desed_task.dataio.annotations import Events
from desed_task.evaluation.psds import Psds, Roc
from desed_task.evaluation.scores import Floats
from desed_task.file_names import printable
from local.pictures import palette
from local.pictures.labels import LONGEST_OF_PANEL, short_label

# An event roll shows annotated classes, then the highest-scoring ones: at least MIN_ROWS, and up to
# MAX_ROWS while they reach VISIBLE_SCORE.
MIN_ROWS = 3
MAX_ROWS = 10
VISIBLE_SCORE = 0.5
# Classes beside the curve of all: as many as a legend has lines.
MAX_CURVES = 20
# Within each row of height 1, scores are below and annotations above.
SCORE_HEIGHT = 0.62
EVENT_BAR = (0.68, 0.22)
_DPI = 110


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically. Texts may contain any file name; none is mathematics."""
    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))
        text.set_parse_math(False)
    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # Names of files in a script that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        # Once; `savefig` would draw it a second time for its layout.
        canvas.draw()
    with atomic_path(path) as temporary:
        imsave(temporary, np.asarray(canvas.buffer_rgba()), format="png", dpi=_DPI)


def plot_psd_roc(psds: Psds, *, title: str, max_efpr: float = 100.0) -> Figure:
    """Plot the effective PSD-ROC curve and those of the classes."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    x, y = _steps(psds.roc, max_efpr)
    axes.plot(x, y, color="black", linewidth=2.5, zorder=3, label=f"all ({psds.value:.3f})")
    axes.fill_between(x, y, color="black", alpha=0.08, linewidth=0)
    drawn = _classes_drawn(psds)
    for number, label in enumerate(drawn):
        x, y = _steps(psds.class_rocs[label], max_efpr)
        name = f"{short_label(label, LONGEST_OF_PANEL)} ({psds.per_class[label]:.2f})"
        style = palette.line_style(number)
        axes.plot(x, y, **style, linewidth=1.2, alpha=0.8, label=name)
    axes.set(
        xlim=(0, max_efpr),
        ylim=(0, 1.01),
        xlabel="effective false positives per hour",
        ylabel="true positive rate (all: effective)",
        title=title,
    )
    axes.grid(alpha=0.3)
    head = "class (area)"
    if len(drawn) < len(psds.class_rocs):
        head = f"class (area): {len(drawn)} of {len(psds.class_rocs)}, the largest"
    figure.legend(loc="outside right upper", fontsize="small", frameon=False, title=head)
    return figure


def _classes_drawn(psds: Psds) -> list[str]:
    """All classes, or of many those with the largest areas."""
    labels = list(psds.class_rocs)
    if len(labels) <= MAX_CURVES:
        return labels
    return sorted(labels, key=lambda label: -psds.per_class[label])[:MAX_CURVES]


def _steps(roc: Roc, max_efpr: float) -> tuple[Floats, Floats]:
    """Corners of a step curve from 0 to `max_efpr`, without infinite rates."""
    kept = roc.efpr < max_efpr
    edges = np.append(np.concatenate([[0.0], roc.efpr[kept]]), max_efpr)
    rates = np.concatenate([[0.0], roc.tpr[kept]])
    return np.repeat(edges, 2)[1:-1], np.repeat(rates, 2)


def plot_event_roll(
    scores: npt.NDArray[np.floating],
    boundaries_s: Floats,
    events: Events,
    labels: Sequence[str],
    *,
    title: str,
    threshold: float = 0.5,
) -> Figure:
    """Plot scores and, above them, annotated events of the relevant classes of a clip.

    Args:
        scores: scores (frame, class) of one clip.
        boundaries_s: frame boundaries (frame + 1,) in seconds.
        events: onset_s, offset_s, label_index and confidence of the clip's events.
        labels: classes in the order of the score columns.
        title: title of the figure.
        threshold: drawn as a line in each row.
    """
    rows = _rows_shown(scores, events)
    figure = Figure(figsize=(9, 1.6 + 0.62 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, label in enumerate(reversed(rows)):
        _draw_scores(axes, place, scores[:, label], boundaries_s, threshold)
        _draw_truth(axes, place, events, label)
    axes.set(
        xlim=(boundaries_s[0], boundaries_s[-1]),
        ylim=(0, len(rows)),
        xlabel="seconds",
        title=title,
    )
    names = [short_label(labels[label], LONGEST_OF_PANEL) for label in reversed(rows)]
    axes.set_yticks(np.arange(len(rows)) + 0.45, names)
    axes.tick_params(axis="y", length=0)
    _explain(figure, threshold)
    return figure


def _explain(figure: Figure, threshold: float) -> None:
    """Add a legend below an event roll."""
    keys = [
        Patch(color=palette.ANNOTATED, label="annotated (paler: less certain)"),
        Patch(color=palette.SCORE, alpha=0.75, label="score"),
        Line2D([], [], color=palette.THRESHOLD, linestyle=":", label=f"threshold {threshold:g}"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=3, frameon=False)


def _draw_scores(
    axes: Axes,
    place: int,
    scores: npt.NDArray[np.floating],
    boundaries_s: Floats,
    threshold: float,
) -> None:
    """Draw one class's scores as steps on the bottom of its row."""
    edges = np.repeat(boundaries_s, 2)[1:-1]
    height = np.repeat(scores.astype(float), 2) * SCORE_HEIGHT
    axes.fill_between(edges, place, place + height, color=palette.SCORE, alpha=0.75, linewidth=0)
    axes.axhline(
        place + threshold * SCORE_HEIGHT, color=palette.THRESHOLD, linewidth=0.8, linestyle=":"
    )
    axes.axhline(place, color="black", linewidth=0.4)


def _draw_truth(axes: Axes, place: int, events: Events, label: int) -> None:
    """Draw one class's events as bars above its scores, paler if less certain."""
    for onset_s, offset_s, index, confidence in zip(*events, strict=True):
        if index == label:
            axes.broken_barh(
                [(float(onset_s), float(offset_s - onset_s))],
                (place + EVENT_BAR[0], EVENT_BAR[1]),
                color=palette.ANNOTATED,
                alpha=0.15 + 0.85 * float(confidence),
                linewidth=0,
            )


def _rows_shown(scores: npt.NDArray[np.floating], events: Events) -> list[int]:
    """Annotated and high-scoring classes, in the vocabulary's order."""
    best = scores.max(axis=0)
    shown = set(np.unique(events[2]).tolist())
    for label in np.argsort(-best, kind="stable").tolist():
        enough = MIN_ROWS if best[label] < VISIBLE_SCORE else MAX_ROWS
        if len(shown) >= enough:
            break
        shown.add(label)
    return sorted(shown)
