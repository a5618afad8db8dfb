"""The picture of a test shows the clip in which most happens, with what was found in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError
from desed_task.evaluation.scores import Scores
from local.classes_dict import VOCABULARY
from local.config import load_config
from local.data.loaded_corpus import LoadedCorpus
from local.training.clip_timeline import eventful_clip, plot_clip_timeline
from tests.published_task import DEVTEST

CONFIG = load_config(Path(__file__).resolve().parents[3] / "confs" / "mini.yaml")
GRID = CONFIG.grid
RATE = 16000


def table(*rows: tuple[int, str], clips: str = "abc") -> EventTable:
    """Events of one second, (clip, label), a second apart."""
    onset_s = np.arange(len(rows), dtype=np.float64)
    return EventTable(
        clip_ids=tuple(clips),
        clip_index=np.array([clip for clip, _ in rows], dtype=np.int64),
        onset_s=onset_s,
        offset_s=onset_s + 1.0,
        label_index=np.array([VOCABULARY.index(label) for _, label in rows], dtype=np.int64),
        confidence=np.ones(len(rows), dtype=np.float32),
        vocabulary=VOCABULARY,
    )


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        # Most classes, not most events.
        ([(0, "Dog")] * 3 + [(1, "Dog"), (1, "Cat")], "b"),
        # Then most events, then the first.
        ([(0, "Dog"), (0, "Cat"), (2, "Dog"), (2, "Cat"), (2, "Cat")], "c"),
        ([(2, "Dog"), (1, "Cat")], "b"),
    ],
)
def test_the_clip_in_which_most_happens(rows, chosen):
    assert eventful_clip(table(*rows)) == chosen


def scores_of(clips: str) -> Scores:
    values = np.full((len(clips), GRID.n_frames, len(VOCABULARY)), 0.01, dtype=np.float32)
    return Scores(tuple(clips), values, GRID.boundaries_s, VOCABULARY)


@pytest.fixture
def corpus(tmp_path):
    """Three clips; in the second, of 4 s, a cat and a dog are heard."""
    for clip_id, seconds in zip("abc", (10.0, 4.0, 10.0), strict=True):
        noise = np.random.default_rng(1).normal(0, 0.1, round(seconds * RATE))
        sf.write(tmp_path / f"{clip_id}.wav", noise, RATE)
    return LoadedCorpus(
        DEVTEST,
        tmp_path,
        tuple("abc"),
        {"a": 10.0, "b": 4.0, "c": 10.0},
        events=table((0, "Dog"), (1, "Dog"), (1, "Cat")),
        files={clip_id: tmp_path / f"{clip_id}.wav" for clip_id in "abc"},
    )


def test_it_shows_what_was_found_and_annotated(corpus):
    scores = scores_of("cab")
    # Frames of 0.064 s; the clip ends in the 63rd.
    scores.values[2, 10:20, VOCABULARY.index("Speech")] = 0.9
    scores.values[2, 100:, VOCABULARY.index("Frying")] = 0.9  # in the padding
    scores.values[2, :, VOCABULARY.index("footsteps")] = 0.9  # not annotated in this corpus
    figure = plot_clip_timeline(scores, scores, corpus, CONFIG)
    above, below = figure.axes
    title = "b of DESED dev-test, student   2 events annotated, 1 detected"
    assert above.get_title() == title
    assert below.get_xlim() == (0, 4.0)
    shown = [tick.get_text() for tick in below.get_yticklabels()]
    assert shown == ["Speech", "Dog", "Cat"]  # from below
    note = figure.legends[0].get_texts()[-1].get_text()
    assert note == "7 classes not shown: never above half their threshold"


def test_thresholds_are_those_of_the_configuration(corpus):
    scores = scores_of("abc")
    scores.values[1, 10:20, VOCABULARY.index("Cat")] = 0.4
    tree = CONFIG.dump()
    tree["predict"]["threshold"] = {"Cat": 0.3}
    config = type(CONFIG).model_validate(tree)
    for which, found in ((CONFIG, 0), (config, 1)):
        figure = plot_clip_timeline(scores, scores, corpus, which)
        assert figure.axes[0].get_title().endswith(f"2 events annotated, {found} detected")


def test_a_clip_that_has_vanished_is_named(corpus):
    missing = replace(corpus, files={**corpus.files, "b": corpus.folder / "gone.wav"})
    with pytest.raises(InputError, match=r"gone\.wav"):
        plot_clip_timeline(scores_of("abc"), scores_of("abc"), missing, CONFIG)
