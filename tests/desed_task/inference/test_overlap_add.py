"""Windows over recordings: where they lie, what they weigh, and that nothing shows of them."""

from __future__ import annotations

import numpy as np
import pytest

from desed_task.audio.windows import WindowGrid
from desed_task.errors import InputError
from desed_task.inference.overlap_add import OverlapAdd
from desed_task.labels import FrameGrid

GRID = FrameGrid()
FRAME, CLIP = GRID.frame_samples, 160000


def windows_of(n_samples, hop_frames=80, block=37777):
    """Windows of a recording whose sample i has the value i + 1."""
    samples = np.arange(1, n_samples + 1, dtype=np.float32)
    blocks = [samples[start : start + block] for start in range(0, n_samples, block)]
    return list(WindowGrid(GRID, hop_frames).cut(blocks))


def total_weight(n_samples, hop_frames):
    """(frame,) sum of the weights as they are divided by their sum, and windows over each frame."""
    windows = WindowGrid(GRID, hop_frames)
    share, cut = [], list(windows.cut([np.ones(n_samples, dtype=np.float32)]))
    # The share of one window in the result is the result where it alone says 1.
    for one in cut:
        adder = OverlapAdd(windows, 1)
        rows = [adder.add(w, np.full((GRID.n_frames, 1), float(w is one))) for w in cut]
        share.append(np.concatenate(rows)[:, 0])
    return np.stack(share)


@pytest.mark.parametrize("hop_frames", [1, 13, 40, 78, 80, 155, 156])
@pytest.mark.parametrize("n_samples", [CLIP, CLIP + 1, CLIP + 9 * FRAME, 3 * CLIP + 77])
def test_weights_sum_to_one_at_every_frame(n_samples, hop_frames):
    if hop_frames == 1 and n_samples > 2 * CLIP:
        n_samples = CLIP + 50 * FRAME  # as many windows as frames
    share = total_weight(n_samples, hop_frames)
    assert share.shape[1] == WindowGrid(GRID, hop_frames).n_frames(n_samples)
    np.testing.assert_allclose(share.sum(axis=0), 1.0, atol=1e-6)
    assert share.min() >= 0.0
    # At the edges of the recording one window speaks alone, or the one that ends there speaks most.
    assert share[0, 0] == share[:, 0].max()
    assert share[-1, -1] == share[:, -1].max()


def test_the_cross_fade_is_a_straight_line():
    share = total_weight(236 * FRAME, 80)
    assert len(share) == 2
    ramp = (np.arange(76) + 0.5) / 76
    np.testing.assert_allclose(share[1, 80:156], ramp, atol=1e-6)
    np.testing.assert_array_equal(share[0, :80], 1.0)
    np.testing.assert_array_equal(share[1, 156:], 1.0)


def test_windows_that_overlap_by_more_than_half_are_triangles():
    weights = WindowGrid(GRID, 20).weights(first=False, last=False)
    np.testing.assert_allclose(weights[:78], (np.arange(78) + 0.5) / 78)
    np.testing.assert_array_equal(weights, weights[::-1])
    assert WindowGrid(GRID, 20).weights(first=True, last=True).tolist() == [1.0] * 156


def test_one_window_alone_has_exactly_the_networks_scores():
    scores = np.random.default_rng(0).random((156, 27), dtype=np.float32)
    (window,) = windows_of(CLIP)
    assert (window.first, window.n_frames, window.last) == (0, 156, True)
    rows = OverlapAdd(WindowGrid(GRID, 80), 27).add(window, scores)
    np.testing.assert_array_equal(rows, scores)


@pytest.mark.parametrize("block", [100, 37777, 10**7])
def test_windows_begin_on_frames_and_the_last_ends_with_the_recording(block):
    n_samples = CLIP + 2 * 80 * FRAME + 5 * FRAME + 700
    windows = windows_of(n_samples, block=block)
    assert [window.first for window in windows] == [0, 80, 160, 166]
    assert [window.last for window in windows] == [False, False, False, True]
    for window in windows[:-1]:
        start = window.first * FRAME
        np.testing.assert_array_equal(window.waveform, np.arange(start, start + CLIP) + 1)
    tail = windows[-1].waveform
    missing = 166 * FRAME + CLIP - n_samples
    assert 0 < missing < FRAME
    np.testing.assert_array_equal(tail[:-missing], np.arange(166 * FRAME, n_samples) + 1)
    # Filled up by reflection: no silence that would change the scale of the features.
    np.testing.assert_array_equal(tail[-missing:], n_samples - 1 - np.arange(missing))


def test_a_short_recording_ends_in_zeros_as_in_training():
    (window,) = windows_of(1600)
    assert (window.first, window.n_frames, window.last) == (0, 2, True)
    np.testing.assert_array_equal(window.waveform[:1600], np.arange(1600) + 1)
    assert len(window.waveform) == CLIP and not window.waveform[1600:].any()
    rows = OverlapAdd(WindowGrid(GRID, 80), 3).add(window, np.ones((156, 3)))
    assert rows.shape == (2, 3)


@pytest.mark.parametrize(
    ("n_samples", "n_frames"),
    [(1, 1), (1024, 1), (1025, 2), (159744, 156), (160000, 156), (160001, 157), (320000, 313)],
)
def test_frames_that_begin_in_a_recording(n_samples, n_frames):
    assert WindowGrid(GRID, 80).n_frames(n_samples) == n_frames
    assert sum(len(rows) for rows in added(n_samples)) == n_frames


def added(n_samples):
    windows = WindowGrid(GRID, 80)
    adder = OverlapAdd(windows, 2)
    return [adder.add(w, np.ones((156, 2))) for w in windows_of(n_samples)]


def test_frames_are_handed_out_as_soon_as_they_are_final():
    assert [len(rows) for rows in added(CLIP + 200 * FRAME)] == [0, 80, 80, 41 + 156]


@pytest.mark.parametrize(("hop_s", "hop_frames"), [(5.12, 80), (5.0, 78), (0.064, 1), (9.99, 156)])
def test_hops_are_rounded_to_frames(hop_s, hop_frames):
    assert WindowGrid.with_hop(GRID, hop_s).hop_frames == hop_frames


@pytest.mark.parametrize("hop_s", [0.0, 0.03, 10.1, -5.0])
def test_a_hop_that_leaves_frames_out_or_stands_still_is_refused(hop_s):
    with pytest.raises(InputError, match=r"predict.hop_s = .* at least one frame \(0.064 s\)"):
        WindowGrid.with_hop(GRID, hop_s)


def test_no_samples_are_no_recording():
    with pytest.raises(InputError, match="contains no samples"):
        windows_of(0)


def test_a_grid_with_frames_of_its_own():
    """A clip whose last frame is not whole: 9984 samples, frames of 4 hops of 256."""
    grid = FrameGrid.for_clip(9984 / 16000, 16000, 256, 4)
    windows = WindowGrid(grid, 5)
    assert (grid.n_frames, windows.n_samples) == (10, 9984)
    for n_samples in (9984, 9985, 20000, 20480, 20481):
        cut = list(windows.cut([np.ones(n_samples, dtype=np.float32)]))
        assert cut[-1].first + cut[-1].n_frames == windows.n_frames(n_samples)
        assert all(len(window.waveform) == 9984 for window in cut)


# Clips of 6 s end within their last frame; without subsampling, 10 s end where one begins.
ODD_GRIDS = [
    FrameGrid.for_clip(6.0, 16000, 256, 4),
    FrameGrid.for_clip(5.0, 16000, 512, 1),
    FrameGrid.for_clip(10.0, 16000, 256, 1),
    FrameGrid.for_clip(0.624, 16000, 512, 8),
]


@pytest.mark.parametrize("grid", [GRID, *ODD_GRIDS])
def test_every_frame_has_a_length_and_a_window(grid):
    for hop_frames in {max(grid.n_frames // 2, 1), grid.n_frames}:
        windows = WindowGrid(grid, hop_frames)
        # Beyond a clip, and beyond windows that do not overlap.
        for whole in (windows.n_samples, 2 * grid.n_frames * grid.frame_samples):
            for more in (1, 2, grid.frame_samples // 2, grid.frame_samples, 263, 1000, 1023):
                n_samples = whole + more
                cut = list(windows.cut([np.ones(n_samples, dtype=np.float32)]))
                assert [w[:3] for w in cut] == [w[:3] for w in windows.spans(n_samples)]
                boundaries_s = windows.boundaries_s(n_samples)
                assert np.diff(boundaries_s).min() > 0
                adder = OverlapAdd(windows, 1)
                rows = [adder.add(w, np.ones((grid.n_frames, 1))) for w in cut]
                np.testing.assert_allclose(np.concatenate(rows), 1.0)
                assert len(np.concatenate(rows)) == len(boundaries_s) - 1
                assert {len(w.waveform) for w in cut} == {windows.n_samples}


@pytest.mark.parametrize("grid", [GRID, FrameGrid.for_clip(1.0, 16000, 256, 4)])
def test_spans_are_the_windows_that_are_cut(grid):
    draws = np.random.default_rng(0)
    for hop_frames in (1, 7, grid.n_frames // 2, grid.n_frames):
        windows = WindowGrid(grid, hop_frames)
        clip, frame = windows.n_samples, grid.frame_samples
        edges = [1, clip - 1, clip, clip + 1, clip + frame, clip + frame * hop_frames]
        edges += [n + 1 for n in edges] + draws.integers(1, 3 * clip, 4).tolist()
        for n_samples in edges:
            samples = np.arange(1, n_samples + 1, dtype=np.float32)
            cut, spans = list(windows.cut([samples])), windows.spans(n_samples)
            assert [window[:3] for window in cut] == [span[:3] for span in spans]
            for window, span in zip(cut, spans, strict=True):
                part = samples[windows.start(span) :][:clip]
                filled = windows.filled(part, longer=n_samples > clip)
                np.testing.assert_array_equal(filled, window.waveform)
            assert len(windows.boundaries_s(n_samples)) == windows.n_frames(n_samples) + 1
