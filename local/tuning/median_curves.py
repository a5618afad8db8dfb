"""What each length of a median filter is worth to its class, as a picture."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from matplotlib.figure import Figure

DPI = 110
PANELS_A_ROW = 6
MARKS = {"before": ("tab:grey", "o"), "chosen": ("tab:orange", "D")}


def curves(
    worth: Mapping[str, Mapping[int, float]],
    maestro_labels: Collection[str],
    marked: Mapping[str, Mapping[str, int]],
) -> Figure:
    """A panel a class: its PSDS1 (DESED) or partial AUC (MAESTRO) over the length in frames.

    The chosen length of a DESED class may lie beside its peak: PSDS1 also counts how far classes
    lie apart.

    Args:
        worth: class -> length -> value.
        maestro_labels: classes of MAESTRO.
        marked: "before" and "chosen" -> class -> length.
    """
    columns = min(PANELS_A_ROW, len(worth))
    rows = math.ceil(len(worth) / columns)
    figure = Figure(figsize=(2.4 * columns, 0.6 + 2.1 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for (label, of), axes in zip(worth.items(), panels, strict=False):
        axes.plot(list(of), list(of.values()), color="tab:blue", linewidth=1.2)
        for name, (colour, marker) in MARKS.items():
            length = marked[name][label]
            if length in of:
                axes.plot(length, of[length], marker, color=colour, label=name)
        axes.set_title(label, fontsize="small")
        axes.set_ylabel("partial AUC" if label in maestro_labels else "PSDS1", fontsize="x-small")
        axes.tick_params(labelsize="x-small")
        axes.margins(y=0.2)
    for axes in panels[len(worth) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize="small")
    figure.supxlabel("length of the median filter, frames", fontsize="small")
    return figure
