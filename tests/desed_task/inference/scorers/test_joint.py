"""Several detectors averaged, and detectors of AudioSet's classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from desed_task.audioset.classes import class_map, strong_classes
from desed_task.checkpoints.spec import build_detector
from desed_task.errors import InputError
from desed_task.inference import SoundEventDetector, TunedValues
from desed_task.inference.scorers.interface import Scorer
from desed_task.inference.scorers.resampling import StepResampler
from desed_task.labels import CLASSES, FrameGrid
from desed_task.postprocess.decoders import DecoderSettings
from tests.desed_task.audioset.small_detectors import saved_detector, small_state, with_gru
from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec, tensors

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("detectors")


@pytest.fixture(scope="module")
def audioset(folder):
    return saved_detector(folder)


def own_spec(**changes):
    """Frames of 64 ms, as published."""
    spec = small_spec(use_embeddings=False)
    return replace(spec, front_end={**spec.front_end, "hop_samples": 256}, **changes)


@pytest.fixture(scope="module")
def own(folder):
    return saved(ours(own_spec()), folder / "own.ckpt")


def noise(seconds, seed=0):
    return 0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE)).astype(np.float32)


def rows_of(path, waveform, **settings):
    return SoundEventDetector.from_checkpoint(path, **settings).detect(waveform, RATE)


@pytest.mark.parametrize("seconds", [0.01, 3.3, 10, 10.02, 27.3])
def test_a_detector_of_audiosets_classes(audioset, seconds):
    detector = SoundEventDetector.from_checkpoint(audioset)
    found = detector.detect(noise(seconds), RATE)
    n_frames = -(-round(seconds * RATE) // 640)
    assert found.scores.shape == found.unprocessed.shape == (n_frames, 447)
    assert detector.labels == found.labels == strong_classes()
    np.testing.assert_allclose(np.diff(found.boundaries_s)[:-1], 0.04, atol=1e-9)
    assert found.boundaries_s[-1] == pytest.approx(seconds)
    assert detector.post_processing.median_filter == (9,) * 447
    if seconds <= 10:  # padded with zeros to 10 s
        padded = np.pad(noise(seconds), (0, 10 * RATE - round(seconds * RATE)))
        network = detector.scorers[0].network
        with torch.inference_mode():
            expected = network(torch.from_numpy(padded)[None]).strong[0].sigmoid().numpy()
        np.testing.assert_allclose(found.unprocessed, expected[:n_frames], atol=1e-6)


@pytest.mark.parametrize("decoder", ["median", "boxes", "threshold_boxes"])
def test_every_decoder_takes_its_scores(audioset, decoder):
    detector = SoundEventDetector.from_checkpoint(audioset, decoder=decoder, classes="desed")
    found = detector.detect(noise(12), RATE, threshold=0.3)
    assert found.labels == CLASSES[:10] and found.events


@pytest.mark.parametrize("seconds", [4, 23.7])
def test_mapped_scores_are_the_highest_of_the_parts(audioset, seconds):
    waveform = noise(seconds)
    whole = rows_of(audioset, waveform).unprocessed
    mapped = rows_of(audioset, waveform, classes="urban_sed")
    for column, (label, parts) in enumerate(class_map("urban_sed").items()):
        assert mapped.labels[column] == label
        index = [strong_classes().index(part) for part in parts]
        np.testing.assert_array_equal(mapped.unprocessed[:, column], whole[:, index].max(axis=1))


def test_classes_of_a_checkpoint_of_ours(own):
    waveform = noise(14)
    whole = rows_of(own, waveform)
    found = rows_of(own, waveform, classes="door opens/closes,Dog")
    index = [CLASSES.index(label) for label in ("door opens/closes", "Dog")]
    assert found.labels == ("door opens/closes", "Dog")
    np.testing.assert_array_equal(found.unprocessed, whole.unprocessed[:, index])
    np.testing.assert_array_equal(found.scores, whole.scores[:, index])
    with pytest.raises(InputError, match=r"own.ckpt: has none of the chosen classes \(air_cond"):
        SoundEventDetector.from_checkpoint(own, classes="urban_sed")


@pytest.mark.parametrize("seconds", [0.02, 6.4, 10, 31.7, 47.3])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_scores_of_several_are_averaged_on_the_shortest_frames(own, audioset, seconds, batch_size):
    waveform = noise(seconds)
    n_threads = torch.get_num_threads()
    joint = SoundEventDetector.from_checkpoint([own, audioset], batch_size=batch_size)
    found = joint.detect(waveform, RATE)
    assert torch.get_num_threads() == n_threads
    alone = [rows_of(path, waveform).unprocessed for path in (own, audioset)]
    resampler = StepResampler(1024, 640)
    resampled = np.concatenate([resampler.add(alone[0]), resampler.finish(len(alone[1]))])
    resampled = resampled[: len(alone[1])]
    assert len(found.unprocessed) == len(alone[1])
    assert found.labels == (*CLASSES, *(c for c in strong_classes() if c not in CLASSES))
    for label in ("Dog", "Cat", "Speech"):  # both know them
        expected = (
            resampled[:, CLASSES.index(label)].astype(np.float64)
            + alone[1][:, strong_classes().index(label)]
        ) / 2
        np.testing.assert_allclose(
            found.unprocessed[:, found.labels.index(label)], expected, atol=1e-6
        )
    for label, of in (
        ("car", resampled[:, CLASSES.index("car")]),
        ("Car", alone[1][:, strong_classes().index("Car")]),
    ):
        np.testing.assert_allclose(found.unprocessed[:, found.labels.index(label)], of, atol=1e-6)
    text = "\n".join(joint.notes)
    assert "all of them have 3 of 471 classes (Cat; Dog; Speech)" in text
    assert "24 of 471 classes by " in text and "444 of 471 classes by " in text


def test_the_order_of_detectors_does_not_change_scores(own, audioset):
    waveform = noise(17)
    one, other = (
        rows_of(paths, waveform, classes="desed") for paths in ([own, audioset], [audioset, own])
    )
    np.testing.assert_allclose(one.unprocessed, other.unprocessed, atol=1e-7)


def test_detectors_of_one_grid_are_averaged_as_they_are(folder, own):
    second = saved(ours(own_spec(), more=1), folder / "second.ckpt")
    waveform = noise(26)
    found = rows_of([own, second], waveform)
    alone = [rows_of(path, waveform).unprocessed.astype(np.float64) for path in (own, second)]
    np.testing.assert_array_equal(found.unprocessed, ((alone[0] + alone[1]) / 2).astype(np.float32))
    median = SoundEventDetector.from_checkpoint([own, second]).post_processing.median_filter
    assert median == SoundEventDetector.from_checkpoint(own).post_processing.median_filter


def test_the_median_filters_keep_their_seconds(folder, audioset):
    spec = own_spec(median_filter=(1, 3, 5, 7, 9, 27, *[1] * 21))
    path = saved(ours(spec), folder / "filtered.ckpt")
    found = SoundEventDetector.from_checkpoint([path, audioset]).post_processing.median_filter
    assert found[:7] == (1, 5, 9, 11, 15, 43, 1)  # odd ones near 1.6 times as many
    assert set(found[27:]) == {9}


@pytest.mark.parametrize("level", ["", "gru."])
def test_a_file_with_a_gru_is_a_detector(folder, level):
    torch.save(with_gru(small_state(folder), level=level), folder / "gru.pt")
    detector = SoundEventDetector.from_checkpoint(folder / "gru.pt", classes=["Dog"])
    assert detector.detect(noise(2), RATE).scores.shape == (50, 1)
    assert detector.scorers[0].title == "ATST-Frame with a GRU, 447 classes of AudioSet"


class Constant(Scorer):
    """Scores every class with one number."""

    def __init__(self, classes, score, *, rate=RATE, hop=160, subsample=4, clip_s=10.0):
        self.classes, self.score = tuple(classes), score
        self.grid = FrameGrid.for_clip(clip_s, rate, hop, subsample)
        self.device = torch.device("cpu")
        self.median_filter = (1,) * len(self.classes)
        self.decoder = DecoderSettings().to_plain()

    title = "a constant"

    def scores(self, waveform):
        return torch.full((len(waveform), self.grid.n_frames, len(self.classes)), self.score)


@pytest.mark.parametrize("seconds", [1, 7.77, 33.3])
def test_windows_of_different_lengths_go_together(seconds):
    """Windows of 10 and of 4 s, frames of 40, 64 and 100 ms."""
    scorers = [
        Constant("ab", 0.2, hop=256),
        Constant("bc", 0.6, clip_s=4.0),
        Constant("cb", 0.7, hop=400, clip_s=7.0),
    ]
    detector = SoundEventDetector(scorers, hop_s=3.2, batch_size=2)
    found = detector.detect(noise(seconds), RATE)
    assert found.labels == ("a", "b", "c")
    assert len(found.unprocessed) == np.ceil(seconds * RATE / 640)
    expected = np.broadcast_to([0.2, 0.5, 0.65], found.unprocessed.shape)
    np.testing.assert_allclose(found.unprocessed, expected, atol=1e-6)


def test_detectors_that_cannot_be_averaged(own, audioset, folder):
    with pytest.raises(InputError, match=r"different sample rates .* 16000 Hz, a constant 8000 Hz"):
        SoundEventDetector([Constant("ab", 0.1), Constant("ab", 0.1, rate=8000)])
    with pytest.raises(InputError, match=r"a constant: has none .*\(b\); .* or leave it out"):
        SoundEventDetector([Constant("ab", 0.1), Constant("ac", 0.2)], classes="b")
    with pytest.raises(InputError, match="no detector to get scores from"):
        SoundEventDetector([])
    copy = folder / "copy.ckpt"
    copy.write_bytes(own.read_bytes())
    with pytest.raises(InputError, match=r"copy.ckpt: the same as .*own.ckpt, by SHA-256"):
        SoundEventDetector.from_checkpoint([own, audioset, copy])
    with pytest.raises(InputError, match="an encoder for one checkpoint, but 2 are given"):
        SoundEventDetector.from_checkpoint([own, audioset, copy], beats="x.pt")
    tuned = TunedValues("best.yaml", "0" * 64, (1,) * 27)
    with pytest.raises(InputError, match="tuned values for one checkpoint, but 2 are given"):
        SoundEventDetector.from_checkpoint([own, audioset], tuned=tuned)
    with pytest.raises(InputError, match="tuned for another checkpoint"):
        SoundEventDetector.from_checkpoint(audioset, tuned=tuned)
    with pytest.raises(InputError, match=r"role 'teacher': .*has one network"):
        SoundEventDetector.from_checkpoint(audioset, role="teacher")
    joint = SoundEventDetector.from_checkpoint([audioset, own], role="teacher")
    assert [one.role for one in joint.scorers] == ["", "teacher"]
    for name in ("spec", "network", "front_end", "encoder"):
        with pytest.raises(InputError, match="not the detector of one checkpoint of this recipe"):
            getattr(joint, name)


def test_tuned_values_of_chosen_classes():
    spec = small_spec(use_embeddings=False)
    parts = build_detector(spec, tensors(spec), "small")
    tuned = TunedValues(
        "best.yaml",
        "",
        tuple(range(1, 55, 2)),
        threshold={"Dog": 0.3, "Cat": 0.6},
        decoder={"kind": "boxes", "step_filter_s": {"Dog": 0.5, "Cat": 0.6}},
    )
    detector = SoundEventDetector(parts, tuned=tuned, classes="Cat,car")
    chosen = detector.post_processing
    assert chosen.median_filter == (5, 2 * CLASSES.index("car") + 1)
    assert chosen.threshold == {"Cat": 0.6} and chosen.settings.step_filter_s == {"Cat": 0.6}
    assert detector.detect(noise(3), RATE).labels == ("Cat", "car")


def test_decoder_settings_of_other_classes_are_left_out(audioset):
    settings = {"kind": "boxes", "step_filter_s": {"Dog": 0.5, "Speech": 0.4}}
    detector = SoundEventDetector.from_checkpoint(audioset, classes="Dog", decoder=settings)
    assert detector.post_processing.settings.step_filter_s == {"Dog": 0.5}
    with pytest.raises(InputError, match="names unknown classes: Dgo"):
        SoundEventDetector.from_checkpoint(
            audioset, classes="Dog", decoder={"step_filter_s": {"Dgo": 0.5}}
        )


def test_released_detectors_by_name(folder, audioset):
    (folder / "ATST-F_strong_1.pt").write_bytes(audioset.read_bytes())
    for name in ("atst_frame_strong", "atst_frame"):
        detector = SoundEventDetector.from_pretrained(name, folder=folder, classes="desed")
        assert detector.labels == CLASSES[:10]
    with pytest.raises(InputError, match=r"BEATs_strong_1.pt: not there; get BEATs .*beats_strong"):
        SoundEventDetector.from_pretrained("beats", folder=folder)
    with pytest.raises(InputError, match=r"'beets'; known: beats_strong, atst_frame_strong, fpas"):
        SoundEventDetector.from_pretrained("beets")
    with pytest.raises(InputError, match=r"m2d_weak: weights without a head for events, .* take "):
        SoundEventDetector.from_pretrained("m2d_weak")
