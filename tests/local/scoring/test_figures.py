"""Figures show what they are given: curves with their areas, events and the classes that matter."""

from __future__ import annotations

import matplotlib.image
import matplotlib.text
import numpy as np
import pytest
from matplotlib.figure import Figure

from desed_task.evaluation.psds import PSDS1, Psds, Roc, area
from desed_task.labels import FrameGrid
from local.scoring import figures

BOUNDARIES_S = FrameGrid().boundaries_s
LABELS = tuple("ABCDEFGHIJKLMNOP")


def roc(efpr, tpr):
    return Roc(np.array(efpr, dtype=float), np.array(tpr, dtype=float))


def texts(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def events(*rows):
    """(onset_s, offset_s, label_index, confidence) rows as an EventTable hands them out."""
    columns = np.array(rows, dtype=float).reshape(-1, 4).T
    return columns[0], columns[1], columns[2].astype(np.int64), columns[3].astype(np.float32)


def test_a_psd_roc_curve_encloses_its_area(tmp_path):
    total, dog = roc([0, 10, 40], [0.0, 0.2, 0.5]), roc([0, 30, np.inf], [0.1, 0.9, 1.0])
    psds = Psds(area(total, 100.0), {"Dog": area(dog, 100.0)}, total, {"Dog": dog})
    figure = figures.plot_psd_roc(psds, title="PSDS1", max_efpr=PSDS1.max_efpr)
    (axes,) = figure.axes
    for line, curve in zip(axes.lines, (total, dog), strict=True):
        x, y = line.get_data()
        assert np.trapezoid(y, x) / 100 == pytest.approx(area(curve, 100.0))
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == [f"all ({psds.value:.3f})", f"Dog ({psds.per_class['Dog']:.2f})"]
    figures.save_figure(figure, tmp_path / "roc.png")
    assert matplotlib.image.imread(tmp_path / "roc.png").std() > 0
    assert [path.name for path in tmp_path.iterdir()] == ["roc.png"]


def test_annotated_and_high_classes_are_shown_in_order():
    scores = np.full((156, len(LABELS)), 0.05)
    scores[20:30, 7] = 0.9
    scores[:, 12] = 0.4
    figure = figures.plot_event_roll(
        scores, BOUNDARIES_S, events((1, 2, 10, 1), (4, 6, 2, 1)), LABELS, title="clip"
    )
    # From top to bottom as in the vocabulary; M scores, but too little.
    assert texts(figure.axes[0])[::-1] == ["C", "H", "K"]


def test_few_rows_are_filled_and_many_are_cut():
    quiet = figures.plot_event_roll(
        np.tile(np.linspace(0, 0.3, len(LABELS)), (156, 1)),
        BOUNDARIES_S,
        events(),
        LABELS,
        title="",
    )
    assert texts(quiet.axes[0])[::-1] == ["N", "O", "P"]
    loud = figures.plot_event_roll(
        np.full((156, len(LABELS)), 0.9), BOUNDARIES_S, events((0, 1, 15, 1)), LABELS, title=""
    )
    assert len(texts(loud.axes[0])) == figures.MAX_ROWS and "P" in texts(loud.axes[0])


def test_bars_lie_where_events_are_and_pale_with_doubt():
    figure = figures.plot_event_roll(
        np.zeros((156, 3)),
        BOUNDARIES_S,
        events((1, 2.5, 0, 1), (4, 9, 1, 0.3)),
        LABELS[:3],
        title="",
    )
    (axes,) = figure.axes
    bars = [bar for bar in axes.collections if bar.get_label().startswith("_") and bar.get_alpha()]
    spans = {
        tuple(np.round(path.get_extents().intervalx, 6)): bar.get_alpha()
        for bar in bars
        for path in bar.get_paths()
    }
    assert spans[1.0, 2.5] == pytest.approx(1.0)
    assert spans[4.0, 9.0] < 0.5


@pytest.mark.parametrize("name", ["a$b_{$c", "n\udcff", "tab\tnew\nline", "\x1b[31m", "名 🎵"])
def test_a_figure_may_show_any_name(name, tmp_path, recwarn):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], label=name)
    axes.set(title=name, xlabel=name)
    axes.legend(title=name)
    figures.save_figure(figure, tmp_path / f"{name}.png")
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not recwarn.list


def test_of_many_classes_the_largest_curves_are_drawn(tmp_path):
    names = [f"class {number}" for number in range(60)]
    areas = {name: (number * 7 % 60) / 60 for number, name in enumerate(names)}
    curve = roc([0, 10, 40], [0.0, 0.2, 0.5])
    figure = figures.plot_psd_roc(Psds(0.3, areas, curve, dict.fromkeys(names, curve)), title="x")
    legend = figure.legends[0]
    assert legend.get_title().get_text() == "class (area): 20 of 60, the largest"
    drawn = [text.get_text().rpartition(" (")[0] for text in legend.get_texts()[1:]]
    assert drawn == sorted(names, key=lambda name: -areas[name])[:20]


def test_names_of_classes_leave_room_for_the_axes(tmp_path, recwarn):
    """Other names than the published ones may be of any length and script, and contain dollars."""
    names = ("door opens/closes", 'say "$x_1$"', "🐕", "x" * 200)
    curve = roc([0, 10, 40], [0.0, 0.2, 0.5])
    psds = Psds(0.3, dict.fromkeys(names, 0.3), curve, dict.fromkeys(names, curve))
    scores = np.full((156, len(names)), 0.6)
    for name, figure in (
        ("roc", figures.plot_psd_roc(psds, title="PSDS1")),
        ("roll", figures.plot_event_roll(scores, BOUNDARIES_S, events(), names, title="clip")),
    ):
        figures.save_figure(figure, tmp_path / f"{name}.png")
        assert figure.axes[0].get_position().width > 0.3, name
        shown = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
        assert any(text.startswith("xxx") and "…" in text for text in shown)
    assert not [one for one in recwarn if "constrained_layout" in str(one.message)]
