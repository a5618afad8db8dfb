"""Tables of scores and of energy that the challenge would refuse."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from desed_task.audio.files import write_wav
from desed_task.evaluation.scores import Scores
from desed_task.labels import MAESTRO_REAL_CLASSES, FrameGrid
from desed_task.postprocess.decoders import DecoderSettings, decoder_of
from local.classes_dict import VOCABULARY
from local.scoring.score_files import (
    SCORE_KINDS,
    BoxScores,
    score_folder,
    write_score_tables,
)
from local.submission.file_checks import (
    SCORE_COLUMNS,
    duration_problems,
    energy_kwh,
    energy_problems,
    table_fault,
    table_problems,
)
from tests.local.submission.callback_runs import config_of, edit_table, write_energy

GRID = FrameGrid()


@pytest.fixture
def table(tmp_path):
    values = np.random.default_rng(1).random((1, GRID.n_frames, len(VOCABULARY)))
    scores = Scores(("a",), values, GRID.boundaries_s, VOCABULARY)
    write_score_tables(tmp_path, scores, {"a": 8.2})
    return tmp_path / "a.tsv"


def test_what_an_evaluation_writes_is_right(table):
    assert table_fault(table, 8.2, GRID.frame_s) == ""
    values = np.loadtxt(table, delimiter="\t", skiprows=1)
    assert values[-1, 1] == 8.2
    edit_table(table, lambda values: np.r_[values[:, :2], values[:, :2]])
    assert "has rows of 2 values under 29 columns" in table_fault(table, 8.2, GRID.frame_s)


def change(row, column, value):
    def changed(values):
        values[row, column] = value
        return values

    return changed


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        (change(4, 2, np.nan), "contains scores that are not finite: the network has diverged"),
        (change(4, 2, np.inf), "contains scores that are not finite"),
        (change(4, 2, -0.001), "contains the score -0.001, which is not in [0, 1]"),
        (change(4, 28, 1.001), "contains the score 1.001, which is not in [0, 1]"),
        (change(4, 28, 1.0), ""),
        (change(0, 0, 0.01), "begins at 0.01 s, not at 0"),
        (change(4, 1, 0.25), "a frame begins at 0.256 s and does not end after it"),
        (change(4, 1, 0.256), "a frame begins at 0.256 s and does not end after it"),
        (change(4, 1, 0.33), "a frame ends at 0.33 s and the next one begins at 0.32 s"),
        (change(4, 0, np.nan), "contains times that are not finite"),
        (
            lambda values: np.delete(values, 7, 0),
            "ends at 0.448 s and the next one begins at 0",
        ),
        (lambda values: values[:-2], "ends at 8.128 s, the clip at 8.2 s"),
        (lambda values: values[:0], "contains no frame"),
    ],
)
def test_faults_of_a_table(table, changed, fault):
    edit_table(table, changed)
    found = table_fault(table, 8.2, GRID.frame_s)
    assert found == "" if not fault else fault in found


def test_a_table_longer_than_its_clip(table):
    assert table_fault(table, 6.0, GRID.frame_s) == "ends at 8.2 s, the clip at 6 s"


def test_a_table_of_boxes_may_begin_with_a_short_row(tmp_path):
    """Its rows are not frames: how far it may end from its clip does not follow from the first."""
    scores = np.full((1, GRID.n_frames, len(VOCABULARY)), 0.1)
    scores[0, 4:20, VOCABULARY.index("Dog")] = 0.9
    raw = Scores(("a",), scores, GRID.boundaries_s, VOCABULARY)
    lengths = [1] * len(VOCABULARY)
    boxes = decoder_of(DecoderSettings(kind="boxes"), VOCABULARY, median_filter=lengths)(raw)
    write_score_tables(tmp_path, BoxScores(boxes, raw, MAESTRO_REAL_CLASSES), {"a": 10.0})
    path = tmp_path / "a.tsv"
    assert np.loadtxt(path, delimiter="\t", skiprows=1)[0, 1] == pytest.approx(0.006)
    assert table_fault(path, 10.0, GRID.frame_s) == ""
    assert "ends at 9.984 s" in table_fault(path, 10.1, GRID.frame_s)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "columns missing: onset, offset, Alarm_bell_ringing"),
        ("onset\toffset\tCat\n", "columns missing: Alarm_bell_ringing, Blender, Dishes"),
        ("\t".join([*SCORE_COLUMNS, "Siren"]), "columns missing: none; unknown: Siren"),
        (
            "\t".join(reversed(SCORE_COLUMNS)),
            "columns are not in the order onset, offset, Alarm_bell",
        ),
        ("\t".join(SCORE_COLUMNS) + "\n0\t0.064\tloud\n", "is not a table of numbers"),
        ("\t".join(SCORE_COLUMNS) + "\n0\t0.064\n0.064\n", "is not a table of numbers"),
        (b"\xff\xfe\xff", "is not a table of numbers"),
    ],
)
def test_files_that_are_no_such_table(text, fault, tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert fault in table_fault(path, 10.0, GRID.frame_s)


@pytest.mark.parametrize("value", ["0.0", "-1", "nan", "inf", "", "much"])
def test_energy_must_be_above_0(value, tmp_path):
    path = tmp_path / "emissions.csv"
    write_energy(path, "0.5", value)
    (problem,) = energy_problems(path)
    assert problem.startswith(f"{path}, line 3: energy_consumed is {value!r}, not above 0")


def test_energy_of_all_measurements_counts(tmp_path):
    path = tmp_path / "emissions.csv"
    write_energy(path, "0.5", "0.125")
    assert energy_problems(path) == []
    assert energy_kwh(path) == 0.625


@pytest.mark.parametrize("stated_s", [100000.0, 9.0, 10.6, 0.001, 10.2])
@pytest.mark.parametrize("audio", [True, False])
def test_durations_of_an_evaluation_are_held_against_audio_and_scores(tmp_path, stated_s, audio):
    """`evaluation.json` states what each clip lasts; a table of scores ends there, or at 10 s."""
    clip = "Straße a"
    config = config_of(1, f"data.eval_folder={tmp_path / 'eval'}")
    if audio:
        write_wav(tmp_path / "eval" / f"{clip}.wav", np.zeros(160000), 16000, "PCM_16")
    run = SimpleNamespace(folder=tmp_path, config=config, clips={clip: stated_s})
    values = np.random.default_rng(1).random((1, config.grid.n_frames, len(VOCABULARY)))
    scores = Scores((clip,), values, config.grid.boundaries_s, VOCABULARY)
    for kind in SCORE_KINDS:
        write_score_tables(score_folder(tmp_path, "student", kind), scores, {clip: 10.0})
    by_audio, by_scores = duration_problems(run), table_problems(run, "student")
    if stated_s == 10.2:
        assert by_audio == by_scores == []
    else:
        assert len(by_audio) == audio and len(by_scores) == 2
        assert f" s, the clip at {stated_s:g} s; evaluate the checkpoint again" in by_scores[0]
    for text in by_audio:
        assert f"{tmp_path / 'evaluation.json'}: wrong durations of 1 clip; evaluate the" in text
        assert f"{clip}: {stated_s:g} s in the table, 10 s in the file" in text
