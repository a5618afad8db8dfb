"""Longer clips with pseudo-labels are read from their beginning, which these are of."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from desed_task.audio.files import write_wav
from desed_task.dataio.datasets import ItemKey, NoTargets, SedDataset
from desed_task.labels import FrameGrid
from local.config import load_config
from local.data.loading.pseudo_labels import add_pseudo_labels

CONF = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"


@pytest.mark.parametrize(
    ("length_s", "in_windows", "is_told"),
    [(10.6, False, True), (10.5, False, False), (25.0, True, False)],
)
def test_clips_of_which_only_the_beginning_is_taught_are_told(
    length_s: float, in_windows: bool, is_told: bool, tmp_path: Path
) -> None:
    sets = [f"training.pseudo_labels={tmp_path}", "losses.pseudo=1"]
    corpus = SimpleNamespace(stem="own", name="own", title="own", trains_on_windows=in_windows)
    clips = {"a": 10.0, "b": length_s}
    part = SimpleNamespace(corpus=corpus, clip_ids=tuple(clips), durations_s=clips)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        add_pseudo_labels({}, [part], load_config(CONF, sets))
    found = [str(one.message) for one in told if "first 10 s of 1 clip of own" in str(one.message)]
    assert len(found) == is_told and all("(b)" in one and "long: windows" in one for one in found)


def test_random_crops_are_of_clips_without_pseudo_labels(tmp_path: Path) -> None:
    path, grid = tmp_path / "ü.wav", FrameGrid(n_frames=4, clip_s=1.0)
    write_wav(path, np.arange(24000, dtype=np.int16), 16000, "PCM_16")
    labels = SimpleNamespace(labels=lambda name: np.zeros((2, 4), dtype=np.float32))
    starts = {}
    for pseudo in (None, labels):
        dataset = SedDataset(
            ("ü",),
            (path,),
            NoTargets(2, grid),
            np.ones(2, dtype=bool),
            0,
            embeddings=None,
            embedding_type="frame",
            sample_rate=16000,
            clip_s=1.0,
            pseudo=pseudo,
        )
        rows = [dataset[ItemKey(0, (seed,))].waveform for seed in range(8)]
        starts[pseudo is None] = {round(float(row[0]) * 32768) for row in rows}
        assert all(torch.equal(row, row[0] + torch.arange(16000) / 32768) for row in rows)
    assert len(starts[True]) == 8 and starts[False] == {0}
