"""Programs that do not work, empty files, files that change while they are read."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from desed_task.audio.codecs import decoding
from desed_task.audio.codecs.ffmpeg_program import FfmpegDecoder
from desed_task.audio.files import estimate_duration_s, probe
from desed_task.audio.inspection import inspect_audio
from desed_task.audio.streaming import stream_array, stream_file
from desed_task.errors import InputError
from tests.conftest import fails_without

PROGRAMS = {
    "exit 1": "#!/bin/sh\nexit 1\n",
    "a library is missing": "#!/bin/sh\necho 'libavdevice.so.58: not found' >&2\nexit 127\n",
    "no script": "no program\n",
    "its interpreter is missing": "#!/no/such/interpreter\n",
    "another program": "#!/bin/sh\necho 'usage: another program, with much to say of itself'\n",
    "zeros": "#!/bin/sh\nhead -c 1000000 /dev/zero\n",
}


def noise(n_frames, channels=1):
    return 0.1 * np.random.default_rng(n_frames).normal(size=(n_frames, channels))


def needs_ffmpeg():
    if shutil.which("ffmpeg") is None:
        what = "ffmpeg is not installed: apt-get install ffmpeg"
        (pytest.fail if fails_without("ffmpeg") else pytest.skip)(what)


@pytest.mark.parametrize("script", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_that_does_not_work_is_blamed_and_not_the_file(script, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(script)
    program.chmod(0o755)
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x1cftypM4A " + bytes(5000))
    plain = tmp_path / "a.wav"
    sf.write(plain, noise(1000), 16000)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")
    shown = re.escape(f"{path}: the program {program} does not work (")
    for read in (probe, inspect_audio, lambda name: list(stream_file(name, 16000))):
        with pytest.raises(InputError, match=rf"^{shown}.+\); install ffmpeg again, .*\[codecs\]"):
            read(path)
    assert probe(plain).frames == 1000


@pytest.mark.parametrize("answer", ["[1, 2]", '{"streams": [7]}', '{"format": null}', "no JSON"])
def test_an_ffprobe_that_does_not_work_tells_no_length(answer, tmp_path):
    program = tmp_path / "ffprobe"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    found = FfmpegDecoder.__new__(FfmpegDecoder)
    found._path, found._program = tmp_path / "a.m4a", str(tmp_path / "ffmpeg")
    assert (found.stated_s(), found.estimated_s()) == (None, None)


@pytest.mark.parametrize("decoder", ["any", "pyav", "none"])
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a.flac", "no ending"])
def test_an_empty_file_has_0_bytes(name, decoder, tmp_path, monkeypatch):
    if decoder != "any":
        monkeypatch.setattr(decoding, "which", lambda _: None)
    if decoder == "none":
        monkeypatch.setattr(decoding, "find_spec", lambda _: None)
    elif decoder == "pyav" and find_spec("av") is None:
        pytest.skip("PyAV is not installed: pip install --editable '.[codecs]'")
    path = tmp_path / name
    path.touch()
    for read in (probe, inspect_audio, estimate_duration_s):
        with pytest.raises(InputError, match=rf"{name}: is not readable as audio \(it has 0 bytes"):
            read(path)


def test_pyav_refuses_a_file_that_cannot_be_read(tmp_path):
    if find_spec("av") is None:
        pytest.skip("PyAV is not installed: pip install --editable '.[codecs]'")
    from desed_task.audio.codecs.pyav import PyavDecoder

    path = tmp_path / "a.mp3"
    path.touch()
    with pytest.raises(InputError, match=r"a.mp3: is not readable as audio"):
        PyavDecoder(path)


@pytest.mark.parametrize("ending", ["wav", "aiff", "flac"])
def test_a_file_that_shrinks_while_it_is_read_is_cut_short(ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    sf.write(path, noise(300_000), 16000)
    blocks = stream_file(path, 16000, block_s=1.0)
    next(blocks)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"is (cut short \(\d.* of 18.8 s\)|not readable)"):
        list(blocks)


@pytest.mark.parametrize("behind", [b"TAG" + b" " * 125, bytes(300_000), b"garbage " * 50_000])
def test_what_is_behind_a_flac_stream_is_not_decoded(behind, tmp_path):
    """As ID3 tags, which some programs append."""
    path = tmp_path / "a.flac"
    samples = noise(50_000)
    sf.write(path, samples, 16000)
    path.write_bytes(path.read_bytes() + behind)
    found = np.concatenate(list(stream_file(path, 16000, block_s=1.0)))
    np.testing.assert_allclose(found, samples[:, 0], atol=1e-4)


def test_an_absurd_rate_takes_no_memory(tmp_path):
    """A block of ten seconds would have 80 GiB."""
    path = tmp_path / "a.wav"
    sf.write(path, noise(1000), 16000)
    content = bytearray(path.read_bytes())
    content[24:28] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(content)
    assert sum(map(len, stream_file(path, 2**31 - 1))) == 1000


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_no_rate_is_refused(rate):
    with pytest.raises(InputError, match=r"a sample rate of \S+ Hz is not positive"):
        list(stream_array(np.zeros(100), rate, 16000))


def test_pictures_without_sound_contain_no_audio(tmp_path):
    needs_ffmpeg()
    path = tmp_path / "a.mp4"
    pictures = "-f lavfi -i testsrc=d=1:s=64x48:r=5 -c:v mpeg4"
    assert not os.system(f"ffmpeg -nostdin -v error {pictures} '{path}'")
    with pytest.raises(InputError, match=r"a.mp4: is not readable as audio \(it contains no audio"):
        probe(path)


def riff(*chunks, mark=b"RIFF", order="<"):
    body = b"WAVE"
    for kind, data, *stated in chunks:
        body += kind + struct.pack(f"{order}I", *(stated or [len(data)])) + data
        body += bytes(len(data) % 2)
    return mark + struct.pack(f"{order}I", len(body)) + body


FORM = (b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16))
SOUND = (0.3 * np.sin(np.arange(32000)) * 32767).astype("<i2").tobytes()
ZEROS_FIRST = bytes(40) + SOUND[40:32000]
BEHIND = {
    "sound": (FORM, (b"data", SOUND, 32000)),
    "zeros, then sound": (FORM, (b"data", SOUND[:32000] + ZEROS_FIRST, 32000)),
    "zeros": (FORM, (b"data", SOUND[:32000] + bytes(32000), 32000)),
    "sound like a chunk": (FORM, (b"data", SOUND[:32000] + b"abcd\x10\0\0\0" + SOUND, 32000)),
    "a second file": (FORM, (b"data", SOUND[:32000]), (b"RIFF", SOUND)),
    "behind a chunk": (FORM, (b"data", SOUND[:32000]), (b"LIST", b"x" * 33), (b"\1\2\3\4", SOUND)),
}
WHOLE = {
    "chunks behind": (FORM, (b"data", SOUND), (b"LIST", b"x" * 501), (b"id3 ", bytes(90_000))),
    "chunks before": ((b"bext", b"x" * 603), FORM, (b"junk", b"data" * 999), (b"data", SOUND)),
    "padding": (FORM, (b"data", SOUND + bytes(1000), len(SOUND))),
}


@pytest.mark.parametrize("chunks", BEHIND.values(), ids=BEHIND)
def test_samples_that_a_header_leaves_out_are_named(chunks, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(*chunks))
    with pytest.warns(UserWarning, match=r"a.wav: \d{5} bytes are not read, .*only 32000 bytes"):
        assert sum(map(len, stream_file(path, 16000))) == 16000


@pytest.mark.parametrize("chunks", WHOLE.values(), ids=WHOLE)
def test_chunks_beside_the_samples_are_no_samples(chunks, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(*chunks))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(map(len, stream_file(path, 16000))) == 32000


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "AIFF", "AU", "CAF"])
@pytest.mark.parametrize("behind", [bytes(32000), SOUND])
def test_every_container_names_what_it_leaves_out(container, behind, tmp_path):
    path = tmp_path / "a.bin"
    sf.write(path, noise(16000), 16000, format=container, subtype="PCM_16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe(path).frames == 16000
    path.write_bytes(path.read_bytes() + behind)
    text = rf"{len(behind)} bytes are not read, as its header states only 320\d\d bytes .*1.00 s"
    with pytest.warns(UserWarning, match=text):
        assert probe(path).frames == 16000


@pytest.mark.parametrize("seconds", [(1, 2), (2, 1), (1, 1)])
def test_two_chunks_of_samples_are_refused(seconds, tmp_path):
    """libsndfile reads the last or none, ffmpeg the first."""
    if seconds == (1, 1):
        needs_ffmpeg()
    path = tmp_path / "a.wav"
    path.write_bytes(riff(FORM, *((b"data", SOUND[: 32000 * n]) for n in seconds)))
    with pytest.raises(InputError, match=r"a.wav: contains several chunks of samples, .*; split"):
        list(stream_file(path, 16000))


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "PCM_U8", "PCM_24", "DOUBLE"])
def test_samples_of_any_width_that_a_header_leaves_out_are_named(subtype, tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, noise(16000), 16000, subtype=subtype)
    content = path.read_bytes()
    place = content.index(b"data") + 4
    stated = struct.unpack("<I", content[place : place + 4])[0] // 2
    path.write_bytes(content[:place] + struct.pack("<I", stated) + content[place + 4 :])
    with pytest.warns(UserWarning, match=rf"not read, as its header states only {stated} bytes"):
        assert sum(map(len, stream_file(path, 16000))) == 8000


@pytest.mark.parametrize("lengths", [(30_000, 30_000), (30_000, 100), (100, 30_000, 100)])
def test_flac_streams_one_after_the_other_are_refused(lengths, tmp_path):
    path = tmp_path / "a.flac"
    parts = []
    for n_frames in lengths:
        sf.write(path, noise(n_frames), 16000)
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))
    for read in (probe, inspect_audio, lambda name: list(stream_file(name, 16000))):
        with pytest.raises(InputError, match=r"a.flac: contains several FLAC streams .*; split"):
            read(path)


@pytest.mark.parametrize(("n_frames", "channels"), [(1000, 1), (132_300, 2), (70_000, 2)])
def test_blocks_of_voc_are_not_taken_for_samples(n_frames, channels, tmp_path):
    needs_ffmpeg()
    path, samples = tmp_path / "a.voc", noise(n_frames, channels)
    given = ["-f", "f32le", "-ar", "44100", "-ac", str(channels), "-i", "pipe:0"]
    command = ["ffmpeg", "-nostdin", "-v", "error", *given, "-c:a", "pcm_s16le", path]
    subprocess.run(command, input=samples.astype("<f4").tobytes(), check=True)
    found = np.concatenate(list(stream_file(path, 44100)))
    np.testing.assert_allclose(found, samples.mean(axis=1), atol=1e-4)


@pytest.mark.parametrize(
    ("waveform", "said"),
    [
        (np.zeros(32000), "the waveform: is digitally silent; events"),
        (noise(32000) * [1, -1], "the waveform: its channels cancel each other"),
        (noise(32000) * [1, 0], ""),
        (noise(16000), ""),
    ],
)
def test_a_waveform_without_sound_is_named(waveform, said):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        list(stream_array(waveform, 16000, 16000))
    assert [str(one.message)[: len(said)] for one in told] == [said] * bool(said)


@pytest.mark.parametrize("path", ["street.wav", Path("rec") / "street.wav"])
def test_a_path_is_no_waveform(path):
    with pytest.raises(InputError, match=r"street.wav: is a path, .*soundfile.read, or .*stream_f"):
        list(stream_array(path, 16000, 16000))


@pytest.mark.parametrize("shape", [(100, 0), (0, 2), (2, 100), (10, 10, 10), ()])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match=r"a waveform of shape .*: give \(sample,\) or"):
        list(stream_array(np.zeros(shape), 16000, 16000))


def test_a_double_beyond_floats_is_refused_where_it_is():
    samples = np.zeros(32000)
    samples[24000] = 1e300
    with pytest.raises(InputError, match=r"or beyond 1e\+10, the first at 1.500 s in channel 1"):
        list(stream_array(samples, 16000, 8000))
