"""Reading clips, headers and folders; resampling a folder."""

import os
import time

import numpy as np
import pytest
import soundfile as sf
import soxr

from desed_task.audio import (
    list_wavs,
    probe,
    read_clip,
    read_lossless,
    resample_file,
    resample_folder,
    write_wav,
)
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
    assert probe(path) == (22050, 44100, 2, 0.5)


@pytest.mark.parametrize("read", [clip_of, probe])
def test_unusable_files_are_named_with_the_remedy(wav, tmp_path, read):
    garbage, empty = tmp_path / "garbage.wav", wav(np.zeros(0), "empty.wav")
    garbage.write_bytes(b"RIFF but nothing else")
    short = wav(1000, "short.wav")
    short.write_bytes(short.read_bytes()[:-500])
    for path, what in (
        (tmp_path / "absent.wav", "no such file; replace or remove"),
        (garbage, r"is not readable as audio \(.+\); replace"),
        (empty, "holds no samples; replace or remove"),
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


def test_samples_that_are_not_finite_are_refused(wav, tmp_path):
    path = wav(np.array([0.0, np.nan, 0.0]), subtype="FLOAT")
    with pytest.raises(InputError, match=r"clip\.wav: holds samples that are not finite"):
        clip_of(path)
    with pytest.raises(InputError, match=r"clip\.wav: holds samples that are not finite"):
        resample_file(path, tmp_path / "out.wav")


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
    with pytest.raises(InputError, match=r": holds no WAV file; put"):
        list_wavs(tmp_path)


@pytest.fixture
def source(wav, tmp_path):
    """A folder of three files: mono, stereo, short."""
    wav(44100, "source/a.wav", 44100)
    wav(np.random.default_rng(1).uniform(-0.5, 0.5, (30000, 2)), "source/b.wav", 44100)
    wav(4410, "source/c.wav", 44100)
    return tmp_path / "source"


def resample(source, name="target", **options):
    return resample_folder(source, source.parent / name, progress=False, **options)


def test_a_folder_is_resampled_with_its_channels(source):
    report = resample(source, jobs=2)
    assert (report.done, report.skipped, report.failed) == (3, 0, ())
    for path in source.iterdir():
        samples, rate = sf.read(source.parent / "target" / path.name)
        expected = soxr.resample(sf.read(path)[0], 44100, RATE, quality="HQ")
        assert rate == RATE
        assert samples.shape == expected.shape
        # Half a 16-bit step from rounding, and a little of soxr's in float32.
        assert np.abs(samples - expected).max() < 0.51 / 32768


def test_loud_16_bit_files_clip_instead_of_wrapping(wav, tmp_path):
    square = np.where(np.arange(44100) % 100 < 50, 1.0, -1.0)
    path = wav(square, "loud.wav", 44100)
    resample_file(path, tmp_path / "out.wav")
    out = sf.read(tmp_path / "out.wav")[0]
    expected = np.clip(soxr.resample(sf.read(path)[0], 44100, RATE), -1, 32767 / 32768)
    assert np.abs(expected).max() == 1
    assert np.abs(out - expected).max() < 0.51 / 32768


@pytest.mark.parametrize(
    ("subtype", "kept"),
    [("PCM_U8", "PCM_16"), ("PCM_16", "PCM_16"), ("PCM_24", "FLOAT"), ("FLOAT", "FLOAT")],
)
def test_precision_is_kept(wav, tmp_path, subtype, kept):
    path = wav(4410, rate=44100, subtype=subtype)
    resample_file(path, tmp_path / "out.wav")
    assert sf.info(tmp_path / "out.wav").subtype == kept


def test_a_file_at_the_targets_rate_is_copied_exactly(wav, tmp_path):
    path = wav(np.array([-32768, -32767, 0, 1, 32767], dtype=np.int16))
    resample_file(path, tmp_path / "out.wav")
    assert sf.read(tmp_path / "out.wav", dtype="int16")[0].tolist() == [
        -32768,
        -32767,
        0,
        1,
        32767,
    ]


def test_a_finished_folder_is_left_alone(source):
    resample(source)
    target = source.parent / "target"
    before = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    report = resample(source)
    assert (report.done, report.skipped) == (0, 3)
    assert {path.name: path.stat().st_mtime_ns for path in target.iterdir()} == before


def break_header(path):
    path.write_bytes(b"RIFF" + bytes(200))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:1000])


def shorten(path):
    sf.write(path, np.zeros((100, 2)), RATE)


def empty(path):
    sf.write(path, np.zeros((0, 2)), RATE)


def change_rate(path):
    sf.write(path, sf.read(path)[0], 8000)


def mix_down(path):
    sf.write(path, sf.read(path)[0].mean(axis=1), RATE)


def remove(path):
    path.unlink()


@pytest.mark.parametrize(
    "damage", [break_header, cut_off, shorten, empty, change_rate, mix_down, remove]
)
def test_a_damaged_target_is_made_again(source, damage):
    resample(source)
    target = source.parent / "target" / "b.wav"
    good = target.read_bytes()
    damage(target)
    report = resample(source)
    assert (report.done, report.skipped) == (1, 2)
    assert target.read_bytes() == good


def test_a_changed_source_is_resampled_again(source):
    resample(source)
    later = time.time() + 10
    sf.write(source / "a.wav", np.zeros(44100), 44100)
    os.utime(source / "a.wav", (later, later))
    assert resample(source).done == 1
    assert not sf.read(source.parent / "target" / "a.wav")[0].any()


def test_files_gone_from_the_source_stay(source):
    resample(source)
    (source / "a.wav").unlink()
    assert resample(source).skipped == 2
    assert (source.parent / "target" / "a.wav").exists()


def test_unreadable_files_are_named_and_the_rest_goes_on(source):
    (source / "a.wav").write_bytes(b"nothing")
    sf.write(source / "tiny.wav", np.zeros(1), 44100)
    report = resample(source)
    assert report.done == 2
    (first, why_first), (second, why_second) = report.failed
    assert (first.name, second.name) == ("a.wav", "tiny.wav")
    assert "a.wav: is not readable as audio" in why_first
    assert "tiny.wav: is shorter than one sample at 16000 Hz" in why_second
    assert sorted(p.name for p in (source.parent / "target").iterdir()) == ["b.wav", "c.wav"]


def test_a_folder_is_never_its_own_target(source):
    with pytest.raises(InputError, match=r"source: is the source itself"):
        resample(source, "source")


def test_parts_of_a_killed_run_are_cleared_once_they_are_old(source):
    target = source.parent / "target"
    target.mkdir()
    for name, age_s in ((".old.x.wav", 7200), (".new.x.wav", 10)):
        (target / name).write_bytes(b"half")
        os.utime(target / name, (time.time() - age_s,) * 2)
    resample(source)
    assert sorted(path.name for path in target.glob(".*")) == [".new.x.wav"]


def test_a_failed_write_leaves_nothing(wav, tmp_path, monkeypatch):
    def full(path, *_args, **_kwargs):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    path = wav(4410, rate=44100)
    monkeypatch.setattr("desed_task.audio.sf.write", full)
    with pytest.raises(InputError, match=r"out\.wav: cannot be written .no space left"):
        resample_file(path, tmp_path / "target" / "out.wav")
    assert list((tmp_path / "target").iterdir()) == []
