"""Recordings to events: seams, thresholds, lengths, and the scores that the network alone gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.published import PUBLISHED_SPEC
from desed_task.checkpoints.spec import Detector, DetectorSpec, build_detector, load_detector
from desed_task.encoders.beats.model import SMALL_CONFIG, load_beats, write_random_beats
from desed_task.errors import InputError
from desed_task.inference.detector import DEFAULT_HOP_S, SoundEvent, SoundEventDetector
from desed_task.nnet.CRNN import Detection
from desed_task.postprocess import ClassMedianFilter, class_thresholds
from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec, tensors

RATE = 16000
FRAME_S = 0.064
TINY = replace(SMALL_CONFIG, encoder_layers=1, encoder_embed_dim=32, embed_dim=16, conv_pos=8)


class Loudness(nn.Module):
    """(batch, sample) -> (batch, frame): the loudness of each frame of the published grid."""

    def forward(self, waveform):
        frames = waveform[:, : 156 * 1024].unflatten(1, (156, 1024))
        return frames.square().mean(-1).sqrt()


class Listener(nn.Module):
    """Class 0 scores where it is loud. Class 1 does too, but knows nothing at a window's edges."""

    embedding_size = 0

    def forward(self, loudness, embeddings):
        loud = (loudness > 0.1).float() * 0.9
        distance = torch.minimum(torch.arange(156) + 0.5, 155.5 - torch.arange(156))
        return Detection(torch.stack([loud, loud * (distance / 30).clamp(max=1)], 1), loud[:, :2])


def listening(hop_s=DEFAULT_HOP_S, **changes):
    values = {**PUBLISHED_SPEC, "classes": ["tone", "shy tone"], "median_filter": [1, 1]}
    values["net"] = {**values["net"], "nclass": 2}
    spec = DetectorSpec.from_dict({**values, **changes}, "stub")
    networks = {"student": Listener(), "teacher": Listener()}
    return SoundEventDetector(Detector(spec, Loudness(), networks), hop_s=hop_s)


def tone(duration_s, *spans_s, rate=RATE):
    """A recording that is loud in the spans, silent elsewhere."""
    time_s = np.arange(round(duration_s * rate)) / rate
    loud = np.zeros_like(time_s)
    for onset_s, offset_s in spans_s:
        loud[(time_s >= onset_s) & (time_s < offset_s)] = 0.5
    return loud * np.sin(2 * np.pi * 440 * time_s)


@pytest.mark.parametrize("hop_s", [0.64, 2.5, DEFAULT_HOP_S, 7.04])
@pytest.mark.parametrize("onset_s", [7.04, 9.6, 18.048])
def test_a_tone_across_windows_is_one_event(onset_s, hop_s):
    offset_s = onset_s + 512 * FRAME_S
    found = listening(hop_s).detect(tone(62.3, (onset_s, offset_s)), RATE)
    for label in ("tone", "shy tone"):
        (event,) = [event for event in found.events if event.label == label]
        assert event.onset_s == pytest.approx(onset_s)
        assert event.offset_s == pytest.approx(offset_s)


def test_without_overlap_the_seam_would_show():
    """That the test above can fail: side by side, windows cut what fades at their edges."""
    found = listening(9.984).detect(tone(62.3, (7.04, 39.808)), RATE)
    assert [event.label for event in found.events].count("tone") == 1
    assert [event.label for event in found.events].count("shy tone") > 1


def test_every_event_is_where_it_is_however_long_the_recording():
    spans_s = [(k * 6.4, k * 6.4 + 1.28) for k in range(100)]
    found = listening().detect(tone(651.7, *spans_s), RATE)
    events = [event for event in found.events if event.label == "tone"]
    np.testing.assert_allclose([(event.onset_s, event.offset_s) for event in events], spans_s)
    assert found.scores.shape == (len(found.boundaries_s) - 1, 2) == (10183, 2)
    assert found.boundaries_s[-1] == found.duration_s == 651.7


def test_blocks_of_any_length_give_the_same():
    detector, waveform = listening(), tone(47.1, (3, 30)).astype(np.float32)
    whole = detector.detect(waveform, RATE)
    for size in (999, 70001, 10**6):
        blocks = [waveform[start : start + size] for start in range(0, len(waveform), size)]
        found = detector.detect_blocks(iter(blocks))
        np.testing.assert_array_equal(found.unprocessed, whole.unprocessed)
        assert found.events == whole.events


def test_scores_come_while_the_recording_goes_on():
    """Nothing that lies far ahead is read before the scores of the beginning are there."""
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield np.zeros(10 * RATE, dtype=np.float32)

    rows, scores = 0, listening().score_blocks(endless())
    while rows < 1000:
        rows += len(next(scores))
    scores.close()
    assert 6 < len(taken) < 100


@pytest.mark.parametrize("duration_s", [0.1, 1.0, 9.99, 10.0, 10.01])
def test_short_recordings(duration_s):
    found = listening().detect(tone(duration_s, (0, 20)) + 0.3, RATE)
    n_frames = min(int(np.ceil(duration_s / FRAME_S - 1e-9)), 156 if duration_s <= 10 else 157)
    assert len(found.scores) == n_frames
    (event,) = [event for event in found.events if event.label == "tone"]
    assert (event.onset_s, event.offset_s) == (0, min(n_frames * FRAME_S, duration_s))
    assert event.confidence == pytest.approx(0.9)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (96000, 6)])
def test_rates_and_channels(rate, channels):
    waveform = tone(25.0, (6.4, 19.2), rate=rate)
    found = listening().detect(np.stack([waveform] * channels, axis=1), rate)
    (event,) = [event for event in found.events if event.label == "tone"]
    assert event.onset_s == pytest.approx(6.4, abs=FRAME_S)
    assert event.offset_s == pytest.approx(19.2, abs=FRAME_S)
    assert found.duration_s == pytest.approx(25.0, abs=1e-3)


def test_one_sample_is_a_recording():
    found = listening().detect(np.ones(1), RATE)
    assert found.scores.shape == (1, 2) and found.duration_s == 1 / RATE


def test_silence_has_no_events():
    found = listening().detect(np.zeros(30 * RATE), RATE)
    assert found.events == () and not found.scores.any()


def test_a_threshold_for_all_or_one_a_class():
    detector, waveform = listening(), tone(10, (2.56, 5.12))
    labels = {
        threshold: {
            event.label for event in detector.detect(waveform, RATE, threshold=given).events
        }
        for threshold, given in (("low", 0.3), ("high", 0.95), ("one", {"shy tone": 0.95}))
    }
    assert labels == {"low": {"tone", "shy tone"}, "high": set(), "one": {"tone"}}
    assert class_thresholds({"b": 0.2}, ["a", "b"]).tolist() == [0.5, 0.2]


@pytest.mark.parametrize(
    ("threshold", "reason"),
    [
        ({"Dgo": 0.4}, "unknown label 'Dgo'"),
        (1.0, "threshold of 1 for tone"),
        ({"shy tone": -0.1}, "threshold of -0.1 for shy tone"),
    ],
)
def test_thresholds_that_say_nothing(threshold, reason):
    with pytest.raises(InputError, match=reason):
        listening().detect(np.zeros(RATE), RATE, threshold=threshold)


def test_the_median_filter_runs_over_the_whole_recording():
    detector = listening(median_filter=[1, 31])
    found = detector.detect(tone(40, (9.0, 9.6), (14, 29)), RATE)
    smooth = ClassMedianFilter([1, 31])(found.unprocessed)
    np.testing.assert_array_equal(found.scores, smooth)
    assert sorted(event.label for event in found.events) == ["shy tone", "tone", "tone"]


def test_confidence_is_the_mean_score():
    found = listening().detect(tone(10, (0, 10)), RATE)
    shy = next(event for event in found.events if event.label == "shy tone")
    rows = slice(round(shy.onset_s / FRAME_S), round(shy.offset_s / FRAME_S))
    assert shy.confidence == pytest.approx(found.scores[rows, 1].mean(), abs=1e-6)
    assert shy.confidence < 0.9
    assert isinstance(shy, SoundEvent)


def test_the_confidence_of_a_long_recording_is_that_of_the_event_s_own_frames():
    """Times of frames round, by their thousands also below the frame that they stand for."""
    spans_s = [(0.064 * first, 0.064 * (first + 1)) for first in range(1, 4000, 2)]
    found = listening().detect(tone(260, *spans_s), RATE)
    events = [event for event in found.events if event.label == "tone"]
    assert len(events) == len(spans_s)
    assert {round(event.confidence, 6) for event in events} == {0.9}


# ---- real networks


def direct(detector, beats, role, waveform):
    """What the parts say of one clip, put together by hand."""
    batch = torch.from_numpy(waveform)[None]
    embeddings = None if beats is None else beats.embed(batch).frame
    with torch.no_grad():
        found = detector.networks[role](detector.front_end(batch), embeddings)
    return found.strong[0].T.numpy()


@pytest.fixture
def beats_file(tmp_path):
    write_random_beats(tmp_path / "beats.pt", seed=1, config=TINY)
    return tmp_path / "beats.pt"


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_clip_has_the_networks_scores(role, beats_file):
    spec = small_spec(embedding_size=32)
    parts = build_detector(spec, tensors(spec), "small")
    waveform = 0.1 * np.random.default_rng(0).normal(size=10 * RATE).astype(np.float32)
    beats = load_beats(beats_file)
    detector = SoundEventDetector(parts, encoder=beats, role=role)
    found = detector.detect(waveform, RATE)
    expected = direct(parts, beats, role, waveform)
    np.testing.assert_allclose(found.unprocessed, expected, atol=1e-6)
    np.testing.assert_allclose(
        found.scores, ClassMedianFilter(spec.median_filter)(expected), atol=1e-6
    )


def test_clip_embeddings_go_to_networks_that_take_them(beats_file):
    spec = small_spec(embedding_size=32, embedding_type="global", aggregation_type="global")
    parts = build_detector(spec, tensors(spec), "small")
    waveform = 0.1 * np.random.default_rng(0).normal(size=10 * RATE).astype(np.float32)
    beats = load_beats(beats_file)
    batch = torch.from_numpy(waveform)[None]
    with torch.no_grad():
        expected = parts.networks["student"](
            parts.front_end(batch), beats.embed(batch).global_
        ).strong
    found = SoundEventDetector(parts, encoder=beats).detect(waveform, RATE)
    np.testing.assert_allclose(found.unprocessed, expected[0].T, atol=1e-6)


def test_batches_do_not_matter(beats_file):
    spec = small_spec(embedding_size=32)
    waveform = 0.1 * np.random.default_rng(0).normal(size=63 * RATE).astype(np.float32)
    parts, beats = build_detector(spec, tensors(spec), "small"), load_beats(beats_file)
    n_threads = torch.get_num_threads()
    found = [
        SoundEventDetector(parts, encoder=beats, batch_size=size).detect(waveform, RATE).unprocessed
        for size in (1, 3, 100)
    ]
    assert torch.get_num_threads() == n_threads
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)


def test_a_checkpoint_is_a_detector(tmp_path, beats_file):
    spec = small_spec(embedding_size=32)
    path = saved(ours(spec), tmp_path / "small.ckpt")
    detector = SoundEventDetector.from_checkpoint(str(path), encoder=beats_file, role="teacher")
    assert detector.labels == spec.classes
    found = detector.detect(np.zeros(RATE), RATE)
    assert found.scores.shape == (25, 27)


def test_a_network_without_embeddings_needs_no_beats(tmp_path):
    path = saved(ours(small_spec(use_embeddings=False)), tmp_path / "small.ckpt")
    for beats in (None, tmp_path / "absent.pt"):
        detector = SoundEventDetector.from_checkpoint(path, encoder=beats)
        assert detector.encoder is None
        assert len(detector.detect(np.zeros(RATE), RATE).scores) == 25


def test_a_beats_that_does_not_fit_is_told(tmp_path, beats_file):
    path = saved(ours(small_spec(embedding_size=48)), tmp_path / "small.ckpt")
    with pytest.raises(InputError, match=r"small.ckpt: the BEATs weights that .* are not found"):
        SoundEventDetector.from_checkpoint(path)
    with pytest.raises(InputError, match="takes embeddings of 48 features; give the file"):
        SoundEventDetector(load_detector(path))
    with pytest.raises(InputError, match="embeddings of 32 features, the network takes 48"):
        SoundEventDetector.from_checkpoint(path, encoder=beats_file)
    with pytest.raises(InputError, match=r"absent.pt: no such file of BEATs weights"):
        SoundEventDetector.from_checkpoint(path, beats=tmp_path / "absent.pt")


def test_other_beats_weights_than_those_of_training_are_warned_of(tmp_path, beats_file, recwarn):
    spec = small_spec(embedding_size=32)
    right = saved(ours(spec.with_embedding(sha256_of(beats_file))), tmp_path / "right.ckpt")
    SoundEventDetector.from_checkpoint(right, encoder=beats_file)
    assert not recwarn.list
    other = saved(ours(spec.with_embedding("0" * 64)), tmp_path / "other.ckpt")
    with pytest.warns(UserWarning, match=r"beats.pt: not the weights that the network was"):
        SoundEventDetector.from_checkpoint(other, encoder=beats_file)


def test_an_unknown_role_and_a_diverged_network(tmp_path):
    spec = small_spec(use_embeddings=False)
    parts = build_detector(spec, tensors(spec), "small")
    with pytest.raises(InputError, match="no network 'pupil'; known: student, teacher"):
        SoundEventDetector(parts, role="pupil")
    parts.networks["student"].dense.bias[0] = float("nan")
    with pytest.raises(InputError, match="the network has diverged"):
        SoundEventDetector(parts).detect(np.zeros(RATE), RATE)


def test_a_waveform_without_samples():
    with pytest.raises(InputError, match="contains no samples"):
        listening().detect(np.zeros(0), RATE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same(beats_file):
    spec = small_spec(embedding_size=32)
    waveform = 0.1 * np.random.default_rng(0).normal(size=63 * RATE).astype(np.float32)
    found = []
    for device in ("cpu", "cuda"):
        parts = build_detector(spec, tensors(spec), "small")
        detector = SoundEventDetector(parts, encoder=load_beats(beats_file), device=device)
        found.append(detector.detect(waveform, RATE).unprocessed)
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)
