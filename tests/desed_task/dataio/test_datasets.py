"""Rows of batches: targets follow the crop, crops follow the key, padding and downmix."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf
import torch

from desed_task.batch import collate
from desed_task.dataio.annotations import EventTable, WeakTable
from desed_task.dataio.datasets import (
    ItemKey,
    JoinedDataset,
    NoTargets,
    SedDataset,
    StrongTargets,
    WeakTargets,
)
from desed_task.labels import FrameGrid, Vocabulary

RATE = 16000
VOCABULARY = Vocabulary(["Dog", "Cat"])
GRID = FrameGrid()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for name, seconds, channels in (("long", 15, 1), ("short", 3, 2), ("exact", 10, 1)):
        samples = rng.uniform(-0.5, 0.5, (seconds * RATE, channels))
        sf.write(folder / f"{name}.wav", samples, RATE)
    return folder


def events(*rows):
    clip, onset, offset, label, value = (np.array(column) for column in zip(*rows, strict=True))
    return EventTable(
        ("long", "short", "exact"),
        clip.astype(np.int64),
        onset.astype(float),
        offset.astype(float),
        label.astype(np.int64),
        value.astype(np.float32),
        VOCABULARY,
    )


CLIPS = ("long", "short", "exact")


def dataset(folder, targets, source=1):
    return SedDataset(
        CLIPS,
        [folder / f"{clip_id}.wav" for clip_id in CLIPS],
        targets,
        VOCABULARY.mask(["Dog"]),
        source,
        embeddings=None,
        embedding_type="frame",
        sample_rate=RATE,
        clip_s=10.0,
    )


TABLE = events(
    (0, 6.0, 7.0, 0, 1.0), (2, 1.0, 2.0, 1, 0.5), (0, 0.0, 15.0, 1, 1.0), (1, 0, 9, 0, 1)
)


def test_testing_crops_at_zero_and_encodes_the_events(folder):
    row = dataset(folder, StrongTargets(TABLE, GRID))[0]
    expected = GRID.encode(
        np.array([6.0, 0.0]), np.array([7.0, 10.0]), np.array([0, 1]), np.array([1.0, 1.0]), 2
    )
    np.testing.assert_array_equal(row.target, expected)
    samples = sf.read(folder / "long.wav", dtype="float32")[0]
    np.testing.assert_array_equal(row.waveform, samples[: 10 * RATE])


def test_events_are_shifted_by_the_crop_and_dropped_when_outside(folder):
    rows = dataset(folder, StrongTargets(TABLE, GRID))
    samples = sf.read(folder / "long.wav", dtype="float32")[0]
    shifts = set()
    for draw in range(8):
        row = rows[ItemKey(0, (1, draw))]
        window = row.waveform.numpy()
        views = np.lib.stride_tricks.sliding_window_view(samples, 4)
        start = int(np.flatnonzero((views == window[:4]).all(axis=1))[0])
        np.testing.assert_array_equal(window, samples[start : start + 10 * RATE])
        onset, offset = 6.0 - round(start / RATE, 3), 7.0 - round(start / RATE, 3)
        expected = GRID.encode(
            np.array([onset]), np.array([offset]), np.array([0]), np.array([1.0]), 2
        )
        np.testing.assert_array_equal(row.target[0], expected[0])
        shifts.add(start)
    assert len(shifts) > 4


@pytest.mark.parametrize(
    ("crop_samples", "shift_ms"), [(0, 0), (7, 0), (9, 1), (23, 1), (25, 2), (24007, 1500)]
)
def test_events_are_shifted_to_the_millisecond(crop_samples, shift_ms):
    """An event that fills frames 50 to 59 of the crop, and 49 or 60 if it is shifted exactly."""
    onset, offset = 50 * 0.064 + 0.0001, 60 * 0.064 - 0.0004
    rows = [
        (0, onset + shift_ms / 1000, offset + shift_ms / 1000, 0, 0.5),
        (0, 10.0001 + shift_ms / 1000, 12.0, 1, 1.0),
    ]
    policy = StrongTargets(events(*rows), GRID)
    expected = np.zeros((2, 156), dtype=np.float32)
    expected[0, 50:60] = 0.5
    np.testing.assert_array_equal(policy.target(0, crop_samples / RATE), expected)


def test_a_crop_depends_on_its_key_alone(folder):
    one, other = (dataset(folder, StrongTargets(TABLE, GRID)) for _ in range(2))
    other[ItemKey(2, (9, 9))]
    torch.testing.assert_close(one[ItemKey(0, (3,))].waveform, other[ItemKey(0, (3,))].waveform)


def test_short_stereo_files_are_averaged_and_padded(folder):
    row = dataset(folder, StrongTargets(TABLE, GRID))[ItemKey(1, (4,))]
    samples = sf.read(folder / "short.wav", dtype="float32")[0].mean(axis=1)
    np.testing.assert_allclose(row.waveform[: len(samples)], samples, atol=1e-7)
    assert not row.waveform[len(samples) :].any()
    assert len(row.waveform) == 10 * RATE


def test_weak_and_absent_targets(folder):
    weak = WeakTable(
        ("long", "short", "exact"),
        np.array([[True, False], [False, False], [True, True]]),
        VOCABULARY,
    )
    rows = dataset(folder, WeakTargets(weak, GRID), 3)
    assert rows[2].target.nonzero().tolist() == [[0, 0], [1, 0]]
    assert not dataset(folder, NoTargets(2, GRID))[0].target.any()


def test_joined_sets_collate_into_a_batch(folder):
    strong = dataset(folder, StrongTargets(TABLE, GRID))
    nothing = dataset(folder, NoTargets(2, GRID), 4)
    joined = JoinedDataset([strong, JoinedDataset([nothing])])
    assert len(joined) == 6
    batch = collate([joined[ItemKey(row)] for row in (2, 4)])
    assert batch.clip_id == ("exact", "short")
    assert batch.source.tolist() == [1, 4]
    assert batch.waveform.shape == (2, 10 * RATE)
    assert batch.target.shape == (2, 2, 156)
    assert batch.known.tolist() == [[True, False], [True, False]]
    torch.testing.assert_close(batch.target[0], strong[2].target)


def test_each_row_of_a_joined_set_is_that_of_its_part(folder):
    """Also the first and the last row of each part."""
    parts = [dataset(folder, NoTargets(2, GRID), source) for source in (1, 2, 4)]
    joined = JoinedDataset([parts[0], JoinedDataset(parts[1:])])
    found = [(row.source.item(), *row.clip_id) for row in map(joined.__getitem__, range(9))]
    assert found == [(part.source.item(), name) for part in parts for name in part.clip_ids]
