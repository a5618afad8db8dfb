"""Tables of scores of an evaluation set."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from sed_scores_eval.base_modules.io import read_sed_scores
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from desed_task.evaluation.scores import Scores
from desed_task.labels import FrameGrid
from local.classes_dict import VOCABULARY
from local.scoring import figures
from local.scoring.score_files import crop_boundaries, write_score_tables
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
