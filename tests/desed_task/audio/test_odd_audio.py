"""Odd audio files against `ffmpeg -f f32le`, with ffmpeg, with PyAV, and with neither."""

from __future__ import annotations

import os
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from benchmarks.odd_audio import ODD_FILES, OddFile, compare, ffmpeg_samples, make
from desed_task.audio.codecs import decoding
from desed_task.audio.files import estimate_duration_s, open_audio, probe, read_clip, read_lossless
from desed_task.audio.inspection import inspect_audio
from desed_task.audio.resampling import resample_file
from desed_task.audio.streaming import stream_file
from desed_task.errors import InputError
from tests.conftest import fails_without

TRIALS = Path(__file__).parents[4] / "shared" / "trials"
BY_NAME = {odd.name: odd for odd in ODD_FILES}
# Read by the decoder, one of each kind: the rest does not depend on it.
DECODED = ("mp3.wav", "stopped.wav", "a.caf", "pipe.flac", "a.oga", "picture.mp3", "noxing.mp3")
DECODED += ("a.opus", "a.m4a", "a.aac", "a.wma", "pipe.webm", "a.mka", "video.mp4", "half.ogg")
DECODED += (
    "late.mka",
    "half late.mka",
    "half.mp3",
    "half.m4a",
    "half.webm",
    "text.mp3",
    "playlist.m4a",
    "-dash:and %d.mov",
)
WARNED = {
    "understated.wav": "156400 bytes are not read, as its header states only 20000 bytes",
    "byte.wav": r"1 of 176400 bytes of samples \(0.0113 ms\) are missing at its end; the rest is",
    "half.ogg": "its last page is incomplete, so that it is cut short",
}


def lacking(what):
    if fails_without("ffmpeg"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session", autouse=True)
def program():
    if shutil.which("ffmpeg") is None:
        lacking("ffmpeg is not installed: apt-get install ffmpeg")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Makes a file of the table, once a session."""
    folder, paths = tmp_path_factory.mktemp("odd"), {}

    def find(name):
        if name not in paths:
            paths[name] = make(BY_NAME[name], folder)
        return paths[name]

    return find


@pytest.fixture
def trial():
    def find(name):
        if not TRIALS.is_dir():
            lacking(f"{TRIALS}: the small inputs are not beside this checkout")
        return TRIALS / name

    return find


@pytest.fixture
def without_ffmpeg(monkeypatch):
    """Hides the program from the decoder, but not from the tests."""
    monkeypatch.setattr(decoding, "which", lambda _: None)


@pytest.fixture
def pyav(without_ffmpeg):
    if find_spec("av") is None:
        pytest.skip("PyAV is not installed: pip install --editable '.[codecs]'")


@pytest.fixture
def no_decoder(without_ffmpeg, monkeypatch):
    monkeypatch.setattr(decoding, "find_spec", lambda _: None)


def is_as_ffmpeg_decodes(odd, path):
    seen = compare(path, odd.channels)
    assert seen.refused == odd.refused, seen
    if odd.refused:
        assert "is cut short" in seen.said or "not readable as audio" in seen.said
        return
    assert seen.is_right, seen
    assert seen.expected > 0
    if odd.name not in WARNED:
        assert not seen.said


@pytest.mark.parametrize("odd", ODD_FILES, ids=lambda odd: odd.name)
def test_a_file_is_read_as_ffmpeg_decodes_it(odd, made):
    path = made(odd.name)
    is_as_ffmpeg_decodes(odd, path)
    if odd.name in WARNED:
        with pytest.warns(UserWarning, match=WARNED[odd.name]), open_audio(path) as sound:
            sound.read(dtype="float32")


@pytest.mark.parametrize("name", DECODED)
def test_pyav_decodes_as_the_program(name, made, pyav):
    is_as_ffmpeg_decodes(BY_NAME[name], made(name))


@pytest.mark.parametrize("decoder", ["ffmpeg", "pyav"])
@pytest.mark.parametrize(
    ("name", "seconds"),
    [("vbr_noxing.mp3", 10.031), ("chained.ogg", 20.003), ("flac_pipe.flac", 10.0)],
)
def test_a_trial_is_read_whole(name, seconds, decoder, trial, request):
    if decoder == "pyav":
        request.getfixturevalue("pyav")
    path = trial(name)
    expected = ffmpeg_samples(path, 1)
    streamed = np.concatenate(list(stream_file(path, 44100, block_s=0.7)))
    assert len(streamed) == len(expected) == probe(path).frames
    assert probe(path).duration_s == pytest.approx(seconds, abs=1e-3)
    apart = np.abs(streamed - expected[:, 0]) > 1e-3
    # Later versions of FFmpeg start each stream of a chain afresh: some packets at the seam differ.
    assert apart.sum() <= (300 if (name, decoder) == ("chained.ogg", "pyav") else 0)
    assert 2.0 < estimate_duration_s(path) < 30.0


@pytest.mark.parametrize(
    "name", ["cbr.mp3", "a.ogg", "a.m4a", "pipe.flac", "adpcm.wav", "stopped.wav"]
)
def test_without_a_decoder_both_remedies_are_named(name, made, no_decoder):
    path = made(name)
    for read in (probe, inspect_audio, estimate_duration_s, read_lossless):
        with pytest.raises(InputError, match=r"apt-get install ffmpeg.* '\.\[codecs\]'\)$") as told:
            read(path)
    assert str(told.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["plain.wav", "float.wav", "sox.wav", "a.flac", "a.aiff", "a.au"])
def test_plain_files_need_no_decoder_and_stay_as_they_were(name, made, no_decoder):
    path = made(name)
    samples, rate = sf.read(path, dtype="float32", always_2d=True)
    with open_audio(path) as sound:
        np.testing.assert_array_equal(sound.read(dtype="float32", always_2d=True), samples)
    assert probe(path)[:3] == (len(samples), rate, samples.shape[1])


@pytest.mark.parametrize("rates", [(44100, 22050), (16000, 48000)])
def test_chained_streams_of_other_rates_become_one_or_are_refused(rates, tmp_path, request):
    parts = [
        make(OddFile(f"{r}.ogg", rate=r, arguments=("-c:a", "libvorbis")), tmp_path) for r in rates
    ]
    chain = tmp_path / "chain.ogg"
    chain.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert compare(chain, 1).is_right
    assert probe(chain).duration_s == pytest.approx(4.0, abs=0.05)
    request.getfixturevalue("pyav")
    seen = compare(chain, 1)  # depends on the version of FFmpeg in the wheel
    refused = seen.refused and "changes its rate or channels on the way" in seen.said
    assert refused or seen.is_right


def test_compressed_audio_is_read_by_every_reader(made, tmp_path):
    path = made("a.m4a")
    expected = ffmpeg_samples(path, 2)
    clip = read_clip(path, sample_rate=44100, n_samples=50000, rng=np.random.default_rng(3))
    start = round(clip.crop_onset_s * 44100)
    assert start > 0
    cropped = expected[start : start + 50000].mean(axis=1)
    np.testing.assert_allclose(clip.waveform, cropped, atol=1e-6)
    assert clip.duration_s == pytest.approx(len(expected) / 44100)
    samples, rate, subtype = read_lossless(path)
    assert (rate, subtype) == (44100, "FLOAT")
    np.testing.assert_array_equal(samples, expected)
    found = inspect_audio(path)
    assert (found.info.sample_format, found.silent, found.finite) == ("compressed", False, True)
    resample_file(path, tmp_path / "b.wav")
    assert not resample_file(path, tmp_path / "b.wav").written
    assert probe(tmp_path / "b.wav").duration_s == pytest.approx(clip.duration_s, abs=1e-3)


def test_a_reader_that_stops_early_leaves_no_process(made):
    path = made("cbr.mp3")
    blocks = stream_file(path, 16000, block_s=0.1)
    next(blocks)
    blocks.close()
    with open_audio(path) as sound:
        sound.read(10)
        process = sound._decoder._process
    assert process.returncode is not None
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if children.is_file():
        assert str(process.pid) not in children.read_text().split()


@pytest.mark.parametrize("decoder", ["ffmpeg", "pyav"])
def test_errors_in_the_middle_are_named(decoder, made, tmp_path, request):
    if decoder == "pyav":
        request.getfixturevalue("pyav")
    content, path = bytearray(made("a.m4a").read_bytes()), tmp_path / "a.m4a"
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(range(7, 257 - 7)) * 12 + bytes(84)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"a.m4a: decoded with \d+ errors? \(.+\), so that parts"):
        list(stream_file(path, 16000))


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        *(("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16")),
        *(("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16")),
        *(("NIST", "PCM_16"), ("WAV", "ULAW")),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_few_missing_bytes_are_named_and_many_refused(container, subtype, channels, tmp_path):
    """By the headers of all containers of plain samples that state a length."""
    path = tmp_path / "cut.bin"
    samples = 0.1 * np.random.default_rng(0).normal(size=(16000, channels))
    sf.write(path, samples, 16000, format=container, subtype=subtype)
    content = path.read_bytes()
    for n_missing in (1, 100):
        path.write_bytes(content[:-n_missing])
        with pytest.warns(UserWarning, match=r"cut.bin: \d+ of \d+ .* are missing at its end; the"):
            assert 15900 <= probe(path).frames < 16000
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cut.bin: (is cut short|not readable)"):
        probe(path)
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe(path).frames == 16000


@pytest.mark.parametrize(
    "stated", [0x7FFFFFFF, 0x7FFFFFFF - 36, 0x7FFFF000, 0x80000000, 0xFFFFFFFF]
)
def test_a_pipe_s_sizes_are_no_length(stated, tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, np.zeros(1000), 16000)
    content = bytearray(path.read_bytes())
    content[40:44] = stated.to_bytes(4, "little")
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe(path).frames == 1000


def test_a_size_between_them_is_a_length(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, np.zeros(1000), 16000)
    content = bytearray(path.read_bytes())
    content[40:44] = (3_000_000_000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is cut short \(2000 of 3000000000 bytes"):
        probe(path)


def test_a_file_name_that_is_not_utf_8_is_opened(made, tmp_path, request):
    path = tmp_path / os.fsdecode(b"n\xff\xfe.mp3")
    shutil.copy(made("cbr.mp3"), path)
    assert probe(path).duration_s == pytest.approx(2.0, abs=1e-3)
    request.getfixturevalue("pyav")
    assert probe(path).duration_s == pytest.approx(2.0, abs=1e-3)


def test_a_playlist_opens_no_other_file(made, tmp_path):
    """A recording from elsewhere could otherwise bring in any file of the user's."""
    secret = shutil.copy(made("a.aac"), tmp_path)
    for name, text in (
        ("list.m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n"),
        ("list.mp3", f"ffconcat version 1.0\nfile '{secret}'\n"),
        ("a.ffconcat", f"ffconcat version 1.0\nfile {Path(secret).name}\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="not readable as audio"):
            probe(tmp_path / name)
