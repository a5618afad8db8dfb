"""The label grid against the published encoder's numbers, and vocabularies."""

from __future__ import annotations

import json

import numpy as np
import pytest

from desed_task.errors import InputError
from desed_task.labels import FrameGrid, Vocabulary, active_runs


def test_the_published_grid():
    grid = FrameGrid.for_clip(10.0, 16000, 256, 4)
    assert (grid.n_frames, grid.frame_s, grid.clip_s) == (156, 0.064, 10.0)


def test_encoding_and_decoding_equal_the_published_ones(parity):
    reference = json.loads(parity("labels.json").read_text())
    vocabulary, grid = Vocabulary(reference["labels"]), FrameGrid()
    np.testing.assert_allclose(grid.boundaries_s[:156], reference["frames_to_time"][:156])
    assert len(reference["cases"]) > 10
    for case in reference["cases"]:
        events = case["events"]
        column = {
            name: np.array([event[name] for event in events], dtype=float)
            for name in ("onset", "offset", "confidence")
        }
        label_index = np.array([vocabulary.index(e["event_label"]) for e in events], dtype=int)
        target = grid.encode(
            column["onset"], column["offset"], label_index, column["confidence"], len(vocabulary)
        )
        active = sorted(
            (int(f), int(c), round(float(target[c, f]), 4)) for c, f in np.argwhere(target)
        )
        assert active == sorted((f, c, round(v, 4)) for f, c, v in map(tuple, case["active"]))
        onset_s, offset_s, index = grid.decode(target.T > 0.5)
        decoded = sorted(zip([vocabulary[i] for i in index], onset_s, offset_s, strict=True))
        expected = sorted(tuple(event) for event in case["decoded"])
        assert [row[0] for row in decoded] == [row[0] for row in expected]
        np.testing.assert_allclose(
            [row[1:] for row in decoded], [row[1:] for row in expected], atol=1e-9
        )


def test_an_unknown_label_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"unknown label 'Dgo'; known: Dog, Cat"):
        Vocabulary(["Dog", "Cat"]).index("Dgo")


def test_a_label_given_twice_is_an_error():
    with pytest.raises(InputError, match="twice: Dog"):
        Vocabulary(["Dog", "Cat", "Dog"])


def test_weak_labels_stand_in_frame_zero():
    target = FrameGrid().encode_weak(np.array([2, 0]), 4)
    assert np.argwhere(target).tolist() == [[0, 0], [2, 0]]


def test_boundaries_are_the_published_ones_to_the_last_bit(parity):
    expected = [float(text) for text in json.loads(parity("frame_times.json").read_text())["times"]]
    assert FrameGrid().boundaries_s.tolist() == expected
    assert FrameGrid.for_clip(10.0, 16000, 256, 4).boundaries_s.tolist() == expected
    # confs/mini.yaml: twice the hop, half the subsampling.
    assert FrameGrid.for_clip(10.0, 16000, 512, 2).boundaries_s.tolist() == expected


@pytest.mark.parametrize("duration_s", [0.064, 3.21, 9.99, 47.3])
def test_no_boundary_lies_beyond_the_end(duration_s):
    n_frames = int(np.ceil(duration_s / 0.064))
    boundaries_s = FrameGrid(n_frames=n_frames, clip_s=duration_s).boundaries_s
    assert boundaries_s[-1] == duration_s and (np.diff(boundaries_s) > 0).all()


@pytest.mark.parametrize(
    ("sample_rate", "hop_samples", "net_subsample"),
    [(16000, 256, 4), (16000, 512, 2), (22050, 256, 4), (44100, 441, 3), (32000, 320, 5)],
)
def test_frames_are_as_long_as_their_hops_at_any_rate(sample_rate, hop_samples, net_subsample):
    grid = FrameGrid.for_clip(10.0, sample_rate, hop_samples, net_subsample)
    assert grid.frame_samples == hop_samples * net_subsample
    samples = np.arange(grid.n_frames + 1) * grid.frame_samples
    np.testing.assert_allclose(grid.boundaries_s, samples / sample_rate, rtol=1e-15)
    assert grid.n_frames == (10 * sample_rate // hop_samples + 1) // net_subsample


def test_runs_of_active_frames():
    active = np.zeros((6, 3), dtype=bool)
    active[[0, 1, 3, 5], 0] = True
    active[:, 2] = True
    first, last, label_index = active_runs(active)
    runs = list(zip(label_index.tolist(), first.tolist(), last.tolist(), strict=True))
    assert runs == [(0, 0, 2), (0, 3, 4), (0, 5, 6), (2, 0, 6)]
