"""Resampling files and folders: to floats by default, to 16 bits on request, never to a mixture."""

import os
import time

import numpy as np
import pytest
import soundfile as sf
import soxr

from desed_task.audio import resampling as module
from desed_task.audio.freshness import read_source_index, source_index
from desed_task.audio.resampling import resample_file, resample_folder
from desed_task.errors import InputError

RATE = 16000
STEP = 1 / 32768
SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]


def write(path, samples, rate=44100, subtype="PCM_16"):
    """A file of the given samples, or of noise of the given length."""
    if isinstance(samples, int):
        samples = np.random.default_rng(samples).uniform(-0.5, 0.5, samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate, subtype=subtype, format="WAV")
    return path


def square(n_channels=1):
    """Full scale, with edges at which a resampled signal overshoots."""
    wave = np.where(np.arange(44100) % 100 < 50, 1.0, -1.0)
    return wave if n_channels == 1 else np.stack([wave, -0.5 * wave], axis=1)


def floats(path):
    return sf.read(path, dtype="float32")[0]


def subtypes(folder):
    return {path.name: sf.info(path).subtype for path in sorted(folder.glob("*.wav"))}


def age(*paths, seconds=100):
    """As if written a while ago."""
    for path in paths:
        changed = path.stat().st_mtime - seconds
        os.utime(path, (changed, changed))


@pytest.fixture
def source(tmp_path):
    """A folder of three files: mono, stereo, short."""
    folder = tmp_path / "source"
    write(folder / "a.wav", 44100)
    write(folder / "b.wav", np.random.default_rng(1).uniform(-0.5, 0.5, (30000, 2)))
    write(folder / "c.wav", 4410)
    age(*folder.iterdir())
    return folder


@pytest.fixture
def target(source):
    return source.parent / "target"


def resample(source, name="target", **options):
    return resample_folder(source, source.parent / name, progress=False, **options)


# ---- one file


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_floats_are_soxr_s_to_the_bit_and_beyond_full_scale(tmp_path, subtype, n_channels):
    path = write(tmp_path / "loud.wav", square(n_channels), subtype=subtype)
    assert resample_file(path, tmp_path / "out.wav") == (True, False)
    expected = soxr.resample(floats(path), 44100, RATE, quality="HQ")
    assert expected.dtype == np.float32 and np.abs(expected).max() > 1.01
    found = floats(tmp_path / "out.wav")
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)
    assert sf.info(tmp_path / "out.wav").subtype == "FLOAT"


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_16_bits_are_rounded_and_clipped(tmp_path, subtype, n_channels):
    path = write(tmp_path / "loud.wav", square(n_channels), subtype=subtype)
    assert resample_file(path, tmp_path / "out.wav", bits=16) == (True, True)
    expected = soxr.resample(floats(path), 44100, RATE, quality="HQ")
    found = floats(tmp_path / "out.wav")
    assert found.shape == expected.shape
    assert np.abs(found - np.clip(expected, -1, 1 - STEP)).max() <= 0.5 * STEP
    assert found.max() == 1 - STEP and found.min() == -1
    assert sf.info(tmp_path / "out.wav").subtype == "PCM_16"


def test_only_samples_that_are_lost_count_as_clipped(tmp_path):
    for value, clipped in ((1 - STEP, False), (1.0, True), (-1.0, False), (-1 - STEP, True)):
        path = write(tmp_path / "a.wav", np.array([value, 0.0]), RATE, "FLOAT")
        (tmp_path / "out.wav").unlink(missing_ok=True)
        assert resample_file(path, tmp_path / "out.wav", bits=16).clipped is clipped, value


@pytest.mark.parametrize("bits", [16, 32])
def test_a_16_bit_file_at_the_targets_rate_keeps_its_samples(tmp_path, bits):
    samples = np.array([-32768, -32767, 0, 1, 32767], dtype=np.int16)
    path = write(tmp_path / "a.wav", samples, RATE)
    assert resample_file(path, tmp_path / "out.wav", bits=bits) == (True, False)
    assert (floats(tmp_path / "out.wav") * 32768).tolist() == samples.tolist()
    assert sf.info(tmp_path / "out.wav").subtype == {16: "PCM_16", 32: "FLOAT"}[bits]


def test_a_file_of_floats_at_the_targets_rate_is_copied_exactly(tmp_path):
    samples = np.random.default_rng(0).normal(0, 1, (100, 2)).astype(np.float32)
    path = write(tmp_path / "a.wav", samples, RATE, "FLOAT")
    resample_file(path, tmp_path / "out.wav")
    np.testing.assert_array_equal(floats(tmp_path / "out.wav"), samples)


@pytest.mark.parametrize("bits", [16, 32])
def test_a_file_is_left_alone_unless_its_bits_are_others(tmp_path, bits):
    path, out = write(tmp_path / "a.wav", 4410), tmp_path / "out.wav"
    age(path)
    assert resample_file(path, out, bits=bits).written
    assert not resample_file(path, out, bits=bits).written
    assert resample_file(path, out, bits=48 - bits).written


def test_samples_that_are_not_finite_are_refused(tmp_path):
    path = write(tmp_path / "clip.wav", np.array([0.0, np.nan, 0.0]), subtype="FLOAT")
    with pytest.raises(InputError, match=r"clip\.wav: contains samples that are not finite"):
        resample_file(path, tmp_path / "out.wav")


# ---- folders


@pytest.mark.parametrize("bits", [None, 16, 32])
def test_a_folder_is_resampled_with_its_channels(source, target, bits):
    report = resample(source, bits=bits, jobs=2)
    assert (report.done, report.skipped, report.failed) == (3, 0, ())
    assert (report.bits, report.before, report.converted) == (bits or 32, {}, 0)
    for path in source.iterdir():
        samples, rate = sf.read(target / path.name, dtype="float32")
        expected = soxr.resample(floats(path), 44100, RATE, quality="HQ")
        assert rate == RATE
        assert samples.shape == expected.shape
        assert np.abs(samples - expected).max() <= (0.5 * STEP if bits == 16 else 0)
    assert set(subtypes(target).values()) == {"PCM_16" if bits == 16 else "FLOAT"}


@pytest.mark.parametrize("bits", [16, 32])
def test_a_finished_folder_is_left_alone(source, target, bits):
    resample(source, bits=bits)
    before = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    for asked in (bits, None):
        report = resample(source, bits=asked)
        assert (report.done, report.skipped, report.bits) == (0, 3, bits)
    assert {path.name: path.stat().st_mtime_ns for path in target.iterdir()} == before


def test_a_folder_of_16_bit_files_is_completed_in_16_bits(source, target):
    resample(source, bits=16)
    (target / "b.wav").unlink()
    write(source / "d.wav", 5000, subtype="PCM_24")
    before = {name: (target / name).stat().st_mtime_ns for name in ("a.wav", "c.wav")}
    report = resample(source)
    assert (report.done, report.skipped, report.bits, report.converted) == (2, 2, 16, 0)
    assert report.before == {"16-bit": 2}
    assert set(subtypes(target).values()) == {"PCM_16"}
    assert {name: (target / name).stat().st_mtime_ns for name in before} == before


@pytest.mark.parametrize("bits", [16, 32])
def test_other_files_are_written_again_when_bits_are_asked_for(source, target, bits):
    resample(source, bits=48 - bits)
    report = resample(source, bits=bits)
    assert (report.done, report.skipped, report.converted) == (3, 0, 3)
    assert sum(report.before.values()) == 3
    assert set(subtypes(target).values()) == {"PCM_16" if bits == 16 else "FLOAT"}


@pytest.mark.parametrize("other", ["PCM_16", "PCM_24", "DOUBLE"])
def test_a_mixed_folder_becomes_float(source, target, other):
    """As a rewrite that was interrupted leaves it, or an earlier version from 24-bit originals."""
    resample(source)
    samples, rate = sf.read(target / "b.wav")
    sf.write(target / "b.wav", samples, rate, subtype=other)
    report = resample(source)
    assert (report.done, report.skipped, report.bits, report.converted) == (1, 2, 32, 1)
    assert report.before["32-bit float"] == 2 and len(report.before) == 2
    assert set(subtypes(target).values()) == {"FLOAT"}
    np.testing.assert_array_equal(
        floats(target / "b.wav"), soxr.resample(floats(source / "b.wav"), 44100, RATE, quality="HQ")
    )


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("again", [None, 16, 32])
def test_an_interrupted_rewrite_is_completed(source, target, bits, again, monkeypatch):
    resample(source, bits=48 - bits)
    write_wav = module.write_wav

    def interrupted(path, *arguments):
        if path.name == "b.wav":
            raise KeyboardInterrupt
        write_wav(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_wav", interrupted)
        with pytest.raises(KeyboardInterrupt):
            resample(source, bits=bits, jobs=1)
    assert len(set(subtypes(target).values())) == 2
    report = resample(source, bits=again)
    assert report.bits == (again or 32)
    assert 0 < report.converted < 3
    assert set(subtypes(target).values()) == {"PCM_16" if again == 16 else "FLOAT"}
    for path in source.iterdir():
        assert sf.info(target / path.name).channels == sf.info(path).channels


@pytest.mark.parametrize("bits", [None, 32])
def test_files_that_cannot_be_written_again_are_told(source, target, bits):
    resample(source, bits=16)
    if bits is None:  # Nothing is asked for, so the folder has to be mixed.
        resample_file(source / "b.wav", target / "b.wav")
    for name in ("a.wav", "c.wav"):
        (source / name).unlink()
    report = resample(source, bits=bits)
    assert [path.name for path in report.orphans] == ["a.wav", "c.wav"]
    assert {info.sample_format for info in report.orphans.values()} == {"16-bit"}
    assert subtypes(target) == {"a.wav": "PCM_16", "b.wav": "FLOAT", "c.wav": "PCM_16"}


def test_files_that_lose_samples_in_16_bits_are_told(source, target):
    write(source / "loud.wav", square())
    write(source / "loud2.wav", square(2))
    assert resample(source).clipped == ()
    report = resample(source, bits=16)
    assert [path.name for path in report.clipped] == ["loud.wav", "loud2.wav"]
    assert report.clipped[0].parent == target
    assert resample(source, bits=16).clipped == ()


def test_a_damaged_file_does_not_decide_over_the_bits(source, target):
    resample(source, bits=16)
    break_header(target / "b.wav")
    report = resample(source)
    assert (report.done, report.bits, report.before) == (1, 16, {"16-bit": 2})


def break_header(path):
    path.write_bytes(b"RIFF" + bytes(200))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:1000])


def shorten(path):
    sf.write(path, np.zeros((100, 2)), RATE, subtype="FLOAT")


def empty(path):
    sf.write(path, np.zeros((0, 2)), RATE, subtype="FLOAT")


def change_rate(path):
    sf.write(path, sf.read(path)[0], 8000, subtype="FLOAT")


def mix_down(path):
    sf.write(path, sf.read(path)[0].mean(axis=1), RATE, subtype="FLOAT")


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


@pytest.mark.parametrize("when", ["older", "same", "newer"])
def test_a_source_replaced_by_another_is_resampled_again_whatever_its_time(source, when):
    """Of the same length; in the second case of another size, in the others not even that."""
    resample(source)
    path = source / "c.wav"
    before = path.stat()
    sf.write(path, np.full(4410, 0.25), 44100, subtype="FLOAT" if when == "same" else "PCM_16")
    times = {"older": (5e8, 5e8), "newer": (3e9, 3e9)}
    os.utime(path, times.get(when, (before.st_atime, before.st_mtime)))
    assert (resample(source).done, resample(source).done) == (1, 0)
    assert np.median(sf.read(source.parent / "target" / "c.wav")[0]) == pytest.approx(
        0.25, abs=1e-3
    )


@pytest.mark.parametrize("when", [5e8, 3e9])
def test_copied_sources_are_not_resampled_again(source, target, when):
    """`cp` without -p, `touch`; also under another name of the folder."""
    resample(source)
    for path in source.iterdir():
        os.utime(path, (when, when))
    elsewhere = source.rename(source.with_name("elsewhere"))
    assert (resample(elsewhere).done, resample(elsewhere).skipped) == (0, 3)


@pytest.mark.parametrize("damage", ["gone", "no JSON", "[]", '{"sources": {"a.wav": 1}}'])
def test_a_folder_without_an_index_is_believed_by_its_times_and_gets_one(source, target, damage):
    resample(source)
    index = source_index(target)
    index.write_text(damage)
    if damage == "gone":
        index.unlink()
    assert resample(source).done == 0
    assert set(read_source_index(target)) == {"a.wav", "b.wav", "c.wav"}
    os.utime(source / "b.wav", (5e8, 5e8))
    assert resample(source).done == 0
    sf.write(source / "b.wav", np.zeros((30000, 2)), 44100)
    os.utime(source / "b.wav", (4e8, 4e8))
    assert resample(source).done == 1


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
    for name, age_s in ((".old.0123abcd.wav", 7200), (".new.0123abcd.wav", 10)):
        (target / name).write_bytes(b"half")
        os.utime(target / name, (time.time() - age_s,) * 2)
    resample(source)
    assert sorted(path.name for path in target.glob(".*")) == [".new.0123abcd.wav"]


# ---- subfolders, and what is skipped


def test_what_is_no_wav_is_counted(tmp_path):
    source = tmp_path / "source"
    write(source / "a.wav", np.full(RATE, 0.1), rate=RATE)
    for name in ("._a.wav", "notes.txt", "b.mp3", "LICENSE"):
        (source / name).touch()
    report = resample_folder(source, tmp_path / "target", progress=False)
    assert report.done == 1 and report.notes == (
        f"{source}: audio that is not WAV, left out: 1 .mp3; convert it",
        f"{source}: skipped: not audio by ending: 1 without ending, 1 .txt, hidden: 1 (._a.wav)",
    )


def test_the_tree_is_kept(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    names = ("1.wav", "x/1.WAV", "y/1.wav", "y/deep/\u00fc.wav")
    for number, name in enumerate(names):
        write(source / name, np.full(RATE, 0.1 * (number + 1)), rate=RATE)
    age(*(source / name for name in names))
    report = resample_folder(source, target, progress=False)
    assert (report.done, report.failed) == (4, ())
    assert report.notes == (f"{source}: 3 of 4 clips come from subfolders (x, y, y/deep)",)
    made = {path.relative_to(target).as_posix() for path in target.rglob("*.wav")}
    assert made == {"1.wav", "x/1.wav", "y/1.wav", "y/deep/\u00fc.wav"}
    for number, name in enumerate(names):
        samples = floats((target / name).with_suffix(".wav"))
        np.testing.assert_allclose(samples, 0.1 * (number + 1), atol=STEP)
    again = resample_folder(source, target, progress=False)
    assert (again.done, again.skipped) == (0, 4)
    write(source / "x" / "1.WAV", np.zeros(RATE), rate=RATE)
    assert resample_folder(source, target, progress=False).done == 1


def test_a_subfolder_in_16_bits_makes_a_folder_of_mixed_formats(source, tmp_path):
    target = tmp_path / "target"
    resample_folder(source, target, progress=False)
    write(target / "x" / "old.wav", 100, rate=RATE)
    report = resample_folder(source, target, progress=False)
    assert report.before == {"16-bit": 1, "32-bit float": 3}
    assert list(report.orphans) == [target / "x" / "old.wav"]


def test_a_target_inside_its_source_is_no_source(source):
    target = source / "16k"
    for done in (3, 0):
        report = resample_folder(source, target, progress=False)
        assert (report.done, report.skipped) == (done, 3 - done)
    assert sorted(path.name for path in target.iterdir()) == ["a.wav", "b.wav", "c.wav"]


def test_two_sources_of_one_target_are_refused(source, tmp_path):
    write(source / "a.WAV", 100)
    with pytest.raises(InputError, match=r"a\.WAV and a\.wav would be one clip"):
        resample_folder(source, tmp_path / "target", progress=False)
    assert not (tmp_path / "target").exists()


def test_half_written_files_of_killed_runs_are_removed_in_subfolders(tmp_path):
    write(tmp_path / "source" / "x" / "a.wav", 100)
    stale = write(tmp_path / "target" / "x" / ".a.0123abcd.wav", 100)
    of_the_user = write(tmp_path / "target" / "x" / "._a.wav", 100)
    for path in (stale, of_the_user):
        age(path, seconds=7200)
    resample_folder(tmp_path / "source", tmp_path / "target", progress=False)
    assert not stale.exists() and of_the_user.exists()
