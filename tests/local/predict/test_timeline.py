"""Timelines show the classes that matter, say what they leave out, and stay readable for hours."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from desed_task.inference.detector import DetectionResult, SoundEvent
from desed_task.postprocess.event_rules import EventRules
from local.predict.mel_image import MelImage
from local.predict.timeline import MAX_POINTS, MAX_TICKS, MOST_ROWS, duration_text, plot_timeline
from local.scoring import figures
from local.scoring.figures import SCORE_HEIGHT

LABELS = ("Dog", "Speech", "Cat", "car")
LIMITS = {"Dog": 0.5, "Speech": 0.5, "Cat": 0.5, "car": 0.2}
RATE = 16000


def found_in(duration_s, *events):
    n_frames = int(np.ceil(duration_s / 0.064))
    boundaries_s = np.minimum(np.arange(n_frames + 1) * 0.064, duration_s)
    scores = np.full((n_frames, len(LABELS)), 0.05, dtype=np.float32)
    for event in events:
        first, last = np.searchsorted(boundaries_s, [event.onset_s, event.offset_s])
        scores[first:last, LABELS.index(event.label)] = event.confidence
    return DetectionResult(duration_s, LABELS, boundaries_s, scores, scores, tuple(events))


def mel_of(duration_s):
    picture = MelImage({})
    noise = np.random.default_rng(0).normal(size=int(RATE * min(duration_s, 20))) * 0.1
    list(picture.watch([noise.astype(np.float32)]))
    return picture


def drawn(duration_s, *events):
    return plot_timeline(
        found_in(duration_s, *events), mel_of(duration_s), LIMITS, title="street.wav"
    )


def rows(figure):
    return [tick.get_text() for tick in figure.axes[1].get_yticklabels()]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_merged_classes_share_a_row():
    found = found_in(10, SoundEvent(1, 3, "Cat", 0.3), SoundEvent(4, 6, "Dog", 0.9))
    events = (SoundEvent(4, 6, "Tiere", 0.9),)
    rules = EventRules(merged_classes={"Tiere": ["Cat", "Dog"]})
    found = replace(found, events=events)
    figure = plot_timeline(found, mel_of(10), LIMITS, title="street.wav", rules=rules)
    assert rows(figure) == ["Tiere"]
    assert legend(figure)[-1].startswith("2 classes not shown")
    # The row has the highest of the scores, and one threshold, as both have the same.
    (area,) = (c for c in figure.axes[1].collections if c.get_alpha() == 0.75)
    heights = area.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(0.9 * SCORE_HEIGHT)
    assert any(np.isclose(heights, 0.3 * SCORE_HEIGHT))
    assert len(figure.axes[1].lines) == 2  # threshold and base
    other = plot_timeline(found, mel_of(10), LIMITS | {"Cat": 0.25}, title="x", rules=rules)
    assert len(other.axes[1].lines) == 1


def test_the_low_threshold_of_hysteresis_is_drawn():
    found = found_in(10, SoundEvent(1, 3, "Cat", 0.9), SoundEvent(4, 6, "Dog", 0.9))
    rules = EventRules(low_threshold={"Dog": 0.2})
    figure = plot_timeline(found, mel_of(10), LIMITS, title="x", rules=rules)
    assert rows(figure) == ["Cat", "Dog"]  # from below
    dotted = [line.get_ydata()[0] for line in figure.axes[1].lines if line.get_linestyle() == ":"]
    heights = [0.5 * SCORE_HEIGHT, 1 + 0.2 * SCORE_HEIGHT, 1 + 0.5 * SCORE_HEIGHT]
    assert sorted(dotted) == pytest.approx(heights)


def test_classes_with_events_and_those_that_come_near_have_rows():
    found = found_in(10, SoundEvent(1, 3, "Speech", 0.9))
    found.scores[50, LABELS.index("car")] = 0.15  # its threshold is 0.2
    found.scores[50, LABELS.index("Cat")] = 0.15
    figure = plot_timeline(found, mel_of(10), LIMITS, title="street.wav")
    assert rows(figure) == ["car", "Speech"]  # from below
    assert legend(figure)[-1] == "2 classes not shown: never above half their threshold"
    assert figure.axes[0].get_title() == "street.wav   1 event in 10.0 s"


def test_events_lie_where_they_are():
    figure = drawn(10, SoundEvent(1.0, 3.5, "Speech", 0.9), SoundEvent(5.0, 5.5, "Speech", 0.9))
    bars = next(c for c in figure.axes[1].collections if len(c.get_paths()) == 2)
    spans = [path.get_extents() for path in bars.get_paths()]
    assert [(span.x0, span.x1) for span in spans] == [(1.0, 3.5), (5.0, 5.5)]


def test_annotated_events_are_told_from_detected_ones():
    found = found_in(10, SoundEvent(1.0, 3.5, "Speech", 0.9))
    truth = [SoundEvent(2.0, 4.0, "Speech", 1.0), SoundEvent(5.0, 6.0, "Dog", 1.0)]
    figure = plot_timeline(found, mel_of(10), LIMITS, title="a.wav", truth=truth)
    assert rows(figure) == ["Speech", "Dog"]  # A class that was missed has a row.
    assert legend(figure)[:2] == ["annotated", "detected"]
    assert figure.axes[0].get_title() == "a.wav   2 events annotated, 1 detected"
    bars = {}
    for collection in figure.axes[1].collections:
        for path in collection.get_paths():
            if len(path.vertices) == 5:  # a rectangle
                colour = tuple(collection.get_facecolor()[0])
                bars.setdefault(colour, []).append(path.get_extents().bounds)
    detected, annotated = (sorted(bars[to_rgba(c)]) for c in ("C1", "C2"))
    assert [(x, w) for x, _, w, _ in detected] == [(1.0, 2.5)]
    assert [(x, w) for x, _, w, _ in annotated] == [(2.0, 2.0), (5.0, 1.0)]
    # One above the other, both above the scores: Speech is the lower row.
    (_, low, _, height), (_, high, *_), (_, upper, *_) = *detected, *annotated
    assert figures.SCORE_HEIGHT < low < low + height < high < 1 < upper


def test_nothing_found():
    figure = drawn(3)
    assert rows(figure) == []
    assert legend(figure)[-1].startswith("4 classes not shown")


@pytest.mark.parametrize(
    ("duration_s", "unit", "tick"),
    [
        (0.1, "seconds", "0.1"),
        (5.0, "seconds", "0.5"),
        (45.0, "seconds", "5"),
        (61.0, "min:s", "0:10"),
        (700.0, "min:s", "1:00"),
        (3900.0, "h:min", "0:10"),
        (11000.0, "h:min", "0:30"),
    ],
)
def test_times_are_readable_from_seconds_to_hours(duration_s, unit, tick):
    below = drawn(duration_s, SoundEvent(0, duration_s, "Dog", 0.9)).axes[1]
    labels = [text.get_text() for text in below.get_xticklabels()]
    assert below.get_xlabel() == unit
    assert labels[1] == tick
    assert len(labels) <= MAX_TICKS + 1
    assert below.get_xlim() == (0, duration_s)


def test_a_short_event_of_an_hour_is_seen(tmp_path):
    """0.064 s of an hour are a fiftieth of a pixel."""
    events = SoundEvent(1800.0, 1800.064, "Dog", 0.9), SoundEvent(10, 600, "Speech", 0.9)
    figure = drawn(3600, *events)
    for collection in figure.axes[1].collections:
        assert max(len(path.vertices) for path in collection.get_paths()) < 5 * MAX_POINTS
    figures.save_figure(figure, tmp_path / "hour.png")
    picture = matplotlib.image.imread(tmp_path / "hour.png")
    red, blue = picture[..., 0], picture[..., 2]
    middle = slice(round(0.5 * picture.shape[1]), round(0.6 * picture.shape[1]))
    lower = slice(round(0.6 * picture.shape[0]), round(0.85 * picture.shape[0]))
    assert ((red - blue)[lower, middle] > 0.3).any()
    assert picture.shape[1] < 2000


def test_frequencies_stand_in_the_middle_of_their_bands():
    picture = MelImage({})
    hz = np.array([1000.0])
    samples = np.sin(2 * np.pi * hz * np.arange(RATE) / RATE).astype(np.float32)
    list(picture.watch([samples]))
    loudest = picture.decibel.mean(axis=1).argmax()
    assert abs(picture.bands_of(hz)[0] - 0.5 - loudest) <= 1
    ticks = drawn(5).axes[0].get_yticklabels()
    assert [text.get_text() for text in ticks] == ["0.2", "0.5", "1", "2", "4", "8"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.1, "0.1 s"),
        (59.96, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.7, "1 h 0 min"),
        (3720, "1 h 2 min"),
    ],
)
def test_durations_in_words(seconds, text):
    assert duration_text(seconds) == text


def test_of_hundreds_of_classes_a_bounded_number_has_rows():
    labels = tuple(f"class, {number}" for number in range(447))
    highest = np.linspace(0.0, 0.99, 447, dtype=np.float32)
    scores = np.tile(highest, (25, 1))
    found = DetectionResult(1.0, labels, np.arange(26) * 0.04, scores, scores, ())
    figure = plot_timeline(found, mel_of(1), dict.fromkeys(labels, 0.9), title="street.wav")
    assert rows(figure) == list(reversed(labels[-MOST_ROWS:]))
    near, above = int((highest > 0.45).sum()), int((highest > 0.9).sum())
    assert legend(figure)[-2:] == [
        f"{447 - near} classes not shown: never above half their threshold",
        f"{near - MOST_ROWS} classes left out, {above - MOST_ROWS} of them with scores above their "
        "threshold",
    ]
