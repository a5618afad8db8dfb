"""Reading clips, headers and folders; writing files."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from desed_task.audio.files import list_wavs, probe, read_clip, read_lossless, write_wav
from desed_task.errors import InputError

RATE = 16000


@pytest.fixture
def wav(tmp_path):
    """Write a file of the given samples, or of noise of the given length."""

    def write(samples, name="clip.wav", rate=RATE, subtype="PCM_16"):
        if isinstance(samples, int):
            samples = np.random.default_rng(samples).uniform(-0.5, 0.5, samples)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, samples, rate, subtype=subtype, format="WAV")
        return path

    return write


def clip_of(path, n_samples=100, rng=None, sample_rate=RATE):
    return read_clip(path, sample_rate=sample_rate, n_samples=n_samples, rng=rng)


def test_a_short_file_is_padded_at_its_end(wav):
    path = wav(np.full(60, 0.5))
    clip = clip_of(path)
    assert clip.waveform.dtype == np.float32
    np.testing.assert_array_equal(clip.waveform, np.repeat([0.5, 0], [60, 40]))
    assert (clip.duration_s, clip.crop_onset_s) == (60 / RATE, 0)


def test_channels_are_averaged(wav):
    left, right = np.full(100, 0.5), np.full(100, -0.25)
    clip = clip_of(wav(np.stack([left, right], axis=1)))
    np.testing.assert_array_equal(clip.waveform, np.full(100, 0.125))


def test_a_long_file_is_cropped_at_0_in_testing(wav):
    path = wav(250)
    whole = sf.read(path, dtype="float32")[0]
    clip = clip_of(path)
    np.testing.assert_array_equal(clip.waveform, whole[:100])
    assert (clip.duration_s, clip.crop_onset_s) == (250 / RATE, 0)


def test_a_long_file_is_cropped_anywhere_in_training(wav):
    path = wav(103)
    whole = sf.read(path, dtype="float32")[0]
    onsets = set()
    for seed in range(40):
        clip = clip_of(path, rng=np.random.default_rng(seed))
        onset = round(clip.crop_onset_s * RATE)
        np.testing.assert_array_equal(clip.waveform, whole[onset : onset + 100])
        onsets.add(onset)
    assert onsets == {0, 1, 2, 3}


def test_a_crop_depends_on_its_generator_only(wav):
    path = wav(5000)
    first, again, other = (clip_of(path, rng=np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert first.crop_onset_s == again.crop_onset_s != other.crop_onset_s


def test_a_short_file_draws_nothing(wav):
    rng = np.random.default_rng(0)
    clip_of(wav(100), rng=rng)
    assert rng.random() == np.random.default_rng(0).random()


def test_probe_tells_the_header(wav):
    path = wav(np.zeros((22050, 2)), rate=44100)
    assert probe(path) == (22050, 44100, 2, 0.5, "PCM_16")


@pytest.mark.parametrize("read", [clip_of, probe])
def test_unusable_files_are_named_with_the_remedy(wav, tmp_path, read):
    garbage, empty = tmp_path / "garbage.wav", wav(np.zeros(0), "empty.wav")
    garbage.write_bytes(b"RIFF but nothing else")
    short = wav(1000, "short.wav")
    short.write_bytes(short.read_bytes()[:-500])
    for path, what in (
        (tmp_path / "absent.wav", "no such file; replace or remove"),
        (garbage, r"is not readable as audio \(.+\); replace"),
        (empty, "contains no samples; replace or remove"),
        (short, r"is cut short \(1500 of 2000 bytes of samples\); fetch"),
    ):
        with pytest.raises(InputError, match=rf"{path.name}: {what}"):
            read(path)


def test_a_piped_file_of_unknown_length_is_read(wav):
    path = wav(1000)
    data = bytearray(path.read_bytes())
    data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert probe(path).frames == 1000


def test_a_clip_at_another_rate_is_refused(wav):
    with pytest.raises(InputError, match=r"clip\.wav: is at 44100 Hz, 16000 Hz are needed; prep"):
        clip_of(wav(100, rate=44100))


def test_samples_that_are_not_finite_are_refused(wav):
    path = wav(np.array([0.0, np.nan, 0.0]), subtype="FLOAT")
    with pytest.raises(InputError, match=r"clip\.wav: contains samples that are not finite"):
        clip_of(path)


@pytest.mark.parametrize(
    ("subtype", "dtype", "kept"),
    [
        ("PCM_16", np.int16, "PCM_16"),
        ("PCM_24", np.int32, "PCM_24"),
        ("FLOAT", np.float32, "FLOAT"),
        ("PCM_U8", np.int16, "PCM_16"),
    ],
)
def test_lossless_reading_and_writing(wav, tmp_path, subtype, dtype, kept):
    path = wav(np.random.default_rng(0).uniform(-1, 1, (50, 2)), subtype=subtype)
    samples, rate, stored = read_lossless(path)
    assert (samples.dtype, rate, stored) == (dtype, RATE, kept)
    write_wav(tmp_path / "new" / "copy.wav", samples, rate, stored)
    np.testing.assert_array_equal(sf.read(tmp_path / "new" / "copy.wav")[0], sf.read(path)[0])


def test_folders_list_their_visible_wavs_sorted(wav, tmp_path):
    for name in ("b.wav", "a.WAV", ".half.wav", "sub/c.wav"):
        wav(10, name)
    (tmp_path / "notes.txt").write_text("")
    assert [path.name for path in list_wavs(tmp_path)] == ["a.WAV", "b.wav"]
    assert [path.name for path in list_wavs(tmp_path, recursive=True)] == [
        "a.WAV",
        "b.wav",
        "c.wav",
    ]


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent: no such folder; check"):
        list_wavs(tmp_path / "absent")
    with pytest.raises(InputError, match=r": contains no WAV file; put"):
        list_wavs(tmp_path)


@pytest.mark.parametrize(
    ("subtype", "name"),
    [
        ("PCM_U8", "8-bit"),
        ("PCM_16", "16-bit"),
        ("PCM_24", "24-bit"),
        ("PCM_32", "32-bit"),
        ("FLOAT", "32-bit float"),
        ("DOUBLE", "64-bit float"),
        ("ULAW", "ULAW"),
    ],
)
def test_sample_formats_have_names(wav, subtype, name):
    info = probe(wav(10, subtype=subtype))
    assert (info.subtype, info.sample_format) == (subtype, name)


@pytest.mark.parametrize("shape", [(1000,), (1000, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
def test_floats_are_written_beyond_full_scale(tmp_path, shape, dtype):
    samples = np.random.default_rng(0).normal(0, 2, shape).astype(np.float32)
    path = tmp_path / "float.wav"
    write_wav(path, samples.astype(dtype), RATE, "FLOAT")
    assert (samples > 1).any() and (samples < -1).any()
    found, rate = sf.read(path, dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(found, samples)
    assert probe(path) == (1000, RATE, samples[0].size, 1000 / RATE, "FLOAT")


def test_files_of_floats_hold_no_time_of_writing(tmp_path):
    """libsndfile's do (PEAK), so that the same samples would give other bytes a second later."""
    write_wav(tmp_path / "ours.wav", np.zeros(100), RATE, "FLOAT")
    sf.write(tmp_path / "theirs.wav", np.zeros(100), RATE, subtype="FLOAT")
    assert b"PEAK" in (tmp_path / "theirs.wav").read_bytes()
    assert b"PEAK" not in (tmp_path / "ours.wav").read_bytes()


def test_a_file_of_floats_that_is_cut_short_is_named(tmp_path):
    path = tmp_path / "short.wav"
    write_wav(path, np.zeros(1000), RATE, "FLOAT")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"short\.wav: is cut short \(3500 of 4000 bytes"):
        probe(path)


@pytest.mark.parametrize(
    ("subtype", "writer"),
    [("PCM_16", "desed_task.audio.files.sf.write"), ("FLOAT", "scipy.io.wavfile.write")],
)
def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, subtype, writer):
    def full(path, *_args, **_kwargs):
        Path(os.fsdecode(path)).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(writer, full)
    with pytest.raises(InputError, match=r"out\.wav: cannot be written .no space left"):
        write_wav(tmp_path / "target" / "out.wav", np.zeros(10), RATE, subtype)
    assert list((tmp_path / "target").iterdir()) == []
