"""Logarithmic axes are labelled, whatever their range."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from local.pictures.log_axes import MOST, label_log_axis, log_ticks


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1e-5, 1e-2, [1e-5, 1e-4, 1e-3, 1e-2]),
        (2e-4, 4e-3, [3e-4, 1e-3, 3e-3]),
        (0.3, 0.9, [0.4, 0.6, 0.8]),
        (1.2, 1.3, [1.2, 1.225, 1.25, 1.275, 1.3]),
        (16, 40, None),
        (0.001, 0.001, [0.001]),
        (1e-12, 1e12, None),
        (101, 102, None),
        (0.00095, 0.00105, None),
    ],
)
def test_ticks_are_round_and_not_many(low, high, ticks):
    found = log_ticks(low, high)
    assert found == sorted(set(found)) and all(low <= tick <= high for tick in found)
    assert min(2, len({low, high})) <= len(found) <= MOST + 2
    if ticks is not None:
        np.testing.assert_allclose(found, ticks)


@pytest.mark.parametrize("span", [(2e-4, 4e-4), (1e-4, 1e-2), (0.11, 0.19), (3, 3)])
def test_an_axis_has_labels(span):
    figure = Figure()
    axes = figure.subplots()
    axes.scatter(span, [0, 1])
    axes.set_xscale("log")
    label_log_axis(axes.xaxis, *span)
    FigureCanvasAgg(figure).draw()
    low, high = axes.get_xlim()
    shown = [
        label.get_text()
        for label, tick in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)
        if low <= tick <= high
    ]
    assert len(shown) >= min(2, len(set(span))) and all(shown)
    assert len(set(shown)) == len(shown)
