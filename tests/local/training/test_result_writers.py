"""Tables of scores of an evaluation set."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from sed_scores_eval.base_modules.io import read_sed_scores
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from desed_task.evaluation.scores import Scores, detect
from desed_task.evaluation.segments import segments_of
from desed_task.labels import MAESTRO_REAL_CLASSES, FrameGrid
from desed_task.postprocess import ClassMedianFilter
from desed_task.postprocess.decoders import DecoderSettings, decoder_of
from local.classes_dict import VOCABULARY
from local.scoring import figures
from local.scoring.score_files import (
    BoxScores,
    crop_boundaries,
    read_scores,
    write_score_tables,
    write_scores,
)
from local.training import result_writers

GRID = FrameGrid()


def scores_of(*clip_ids):
    rng = np.random.default_rng(3)
    shape = (len(clip_ids), GRID.n_frames, len(VOCABULARY))
    return Scores(clip_ids, rng.random(shape).astype(np.float32), GRID.boundaries_s, VOCABULARY)


@pytest.mark.parametrize(
    ("duration_s", "n_frames", "end_s"),
    [
        (10.0, 156, 9.984),
        (12.0, 156, 9.984),
        (9.984, 156, 9.984),
        (9.92, 155, 9.92),
        (9.93, 156, 9.93),
        (109 * 1024 / 16000, 109, 6.976),
        (109 * 1024 / 16000 + 1 / 16000, 110, 6.976 + 1 / 16000),
        (1 / 16000, 1, 1 / 16000),
    ],
)
def test_no_frame_begins_after_the_end_of_its_clip(duration_s, n_frames, end_s, tmp_path):
    ends_s = crop_boundaries(GRID.boundaries_s, duration_s)
    assert len(ends_s) == n_frames + 1
    assert ends_s[-1] == pytest.approx(end_s, abs=1e-9)
    # What is written is what the field's library accepts: no frame without length.
    scores = scores_of("a")
    write_score_tables(tmp_path, scores, {"a": duration_s})
    read = read_sed_scores(tmp_path / "a.tsv")
    assert list(read.columns) == ["onset", "offset", *VOCABULARY]
    np.testing.assert_allclose(read["offset"], ends_s[1:], atol=1e-7)
    np.testing.assert_allclose(read[list(VOCABULARY)], scores.values[0, :n_frames], atol=5e-7)


def test_tables_of_boxes_have_their_borders_and_means_of_segments(tmp_path):
    """Events keep their borders; MAESTRO's classes have the means that they are scored by."""
    raw = scores_of("a", "b")
    lengths = [5] * len(VOCABULARY)
    smoothed = raw.map(ClassMedianFilter(lengths))
    settings = DecoderSettings(kind="boxes", step_filter_s=0.38)
    boxes = decoder_of(settings, VOCABULARY, median_filter=lengths)(raw)
    found = BoxScores(boxes, smoothed, MAESTRO_REAL_CLASSES)
    write_score_tables(tmp_path, found, {"a": 10.0, "b": 7.3})
    for clip_id in ("a", "b"):
        table = read_sed_scores(tmp_path / f"{clip_id}.tsv")
        assert list(table.columns) == ["onset", "offset", *VOCABULARY]
        assert (table["offset"] > table["onset"]).all()
        own = boxes.select([clip_id], ["Speech"])
        first = table["Speech"].ne(table["Speech"].shift()) & table["Speech"].gt(0)
        kept = own.onset_s < table["offset"].iloc[-1]
        np.testing.assert_allclose(table["onset"][first], own.onset_s[kept], atol=1e-6)
        np.testing.assert_allclose(table["Speech"][first], own.confidence[kept], atol=1e-6)
    means = segments_of(smoothed.select(["a"]))[0]
    table = read_sed_scores(tmp_path / "a.tsv")
    segment = np.floor(table["onset"] + 1e-6).astype(int)
    for label in MAESTRO_REAL_CLASSES:
        expected = means[segment, VOCABULARY.index(label)]
        np.testing.assert_allclose(table[label], expected, atol=1e-6)


def test_borders_that_differ_from_those_of_segments_by_rounding_are_one(tmp_path):
    """1.92 - 0.92 is less than 1 by 1e-16: no row of a table lasts so short."""
    values = np.full((1, GRID.n_frames, len(VOCABULARY)), 0.1)
    values[0, 30:, VOCABULARY.index("Dog")] = 0.9
    raw = Scores(("a",), values, GRID.boundaries_s, VOCABULARY)
    lengths = [1] * len(VOCABULARY)
    settings = DecoderSettings(kind="boxes", step_filter_s=1.84)
    boxes = decoder_of(settings, VOCABULARY, median_filter=lengths)(raw)
    assert 0 < 1 - boxes.select(labels=["Dog"]).offset_s[0] < 1e-9
    write_score_tables(tmp_path, BoxScores(boxes, raw, MAESTRO_REAL_CLASSES), {"a": 10.0})
    table = read_sed_scores(tmp_path / "a.tsv")
    assert (table["offset"] > table["onset"]).all()
    np.testing.assert_allclose(table["Dog"][:2], [0.1, 0.0], atol=1e-6)


@pytest.mark.parametrize("kind", ["median", "boxes", "threshold_boxes"])
def test_stored_scores_are_read_as_what_they_are(tmp_path, kind):
    raw = scores_of("a", "ä b")
    decode = decoder_of(DecoderSettings(kind=kind), VOCABULARY, median_filter=[3] * len(VOCABULARY))
    decoded = decode(raw)
    write_scores(tmp_path / "scores.npz", raw, decoded)
    np.testing.assert_array_equal(
        read_scores(tmp_path / "scores.npz", "unprocessed").values, raw.values
    )
    again = read_scores(tmp_path / "scores.npz", "postprocessed")
    assert type(again) is type(decoded)
    one, other = (detect(scores, 0.4) for scores in (again, decoded))
    np.testing.assert_array_equal(one.onset_s, other.onset_s)
    with np.load(tmp_path / "scores.npz") as stored:
        assert ("postprocessed" in stored) == (kind == "median")


def test_tensorboard_shows_the_saved_picture(tmp_path):
    png = tmp_path / "figure.png"
    figures.save_figure(Figure(figsize=(3, 2)), png)
    with SummaryWriter(str(tmp_path)) as writer:
        result_writers._show_png(writer, "test/student/x", png, SimpleNamespace(global_step=7))
    shown = EventAccumulator(str(tmp_path)).Reload()
    (image,) = shown.Images("test/student/x")
    assert image.encoded_image_string == png.read_bytes()
    assert (image.width, image.height, image.step) == (330, 220, 7)


def test_a_clip_of_whole_frames_gets_that_many():
    # 3 x 0.01875 falls below 900 / 16000: without care, a frame of no length would follow.
    odd = FrameGrid.for_clip(10.0, 16000, 300, 1)
    assert 3 * odd.frame_s < 3 * 300 / 16000
    for grid in (GRID, odd):
        for k in range(1, 157):
            duration_s = k * grid.frame_samples / grid.sample_rate
            assert len(crop_boundaries(grid.boundaries_s, duration_s)) == k + 1


def test_clips_of_one_name_have_a_table_each(tmp_path):
    scores = scores_of("1", "x/1", "y/1", "y/deep/1")
    write_score_tables(tmp_path, scores, dict.fromkeys(scores.clip_ids, 10.0))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 4
    for clip_id, values in zip(scores.clip_ids, scores.values, strict=True):
        read = read_sed_scores(tmp_path / f"{clip_id}.tsv")
        np.testing.assert_allclose(read[list(VOCABULARY)], values, atol=5e-7)
