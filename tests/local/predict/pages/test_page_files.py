"""Pages as files: their names, what is embedded or linked, the index, and what is left alone."""

from __future__ import annotations

import json
import os
import re
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from matplotlib.image import imread

from desed_task.checkpoints.spec import build_detector
from desed_task.errors import InputError
from desed_task.inference.detector import SoundEventDetector
from local.predict.mel_image import MelImage
from local.predict.pages.document import ASSETS, data_block, document
from local.predict.pages.mel_picture import mel_png, tick_places
from local.predict.pages.page import SCRIPTS
from local.predict.pages.sound import SoundCopy, needs_copy, sound_of
from local.predict.pages.summaries import read_summary, summary_text
from local.predict.pages.urls import addresses, quoted
from local.predict.predict_all import Output, detect_recordings, predict_all
from local.predict.recordings import Recording, find_recordings
from local.predict.result_names import INDEX_FILE, paths_of
from tests.desed_task.checkpoints.example_checkpoints import small_spec, tensors
from tests.in_process import run_main

RATE = 16000


@pytest.fixture(scope="module")
def detector():
    spec = small_spec(use_embeddings=False)
    return SoundEventDetector(build_detector(spec, tensors(spec), "small"))


@pytest.fixture
def folder(tmp_path):
    return made(tmp_path / "in", "a.wav", "b/a.wav", "é c.wav")


def made(folder, *names, seconds=1.0):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * np.random.default_rng(number).normal(size=int(seconds * RATE))
        sf.write(path, noise, RATE, format="WAV")
    return folder


def predict(detector, inputs, where, *formats, threshold=0.05, **others):
    output = Output(where, formats or ("html",), False, {})._replace(**others)
    return predict_all(detector, find_recordings(inputs), output, threshold=threshold)


def listed(index: Path) -> list[str]:
    """Addresses in an index."""
    data = re.search(r'id="data">(.*?)</script>', index.read_text()).group(1)
    return [row[1] for row in json.loads(data)["rows"]]


# ---- names


def test_recordings_called_index_leave_the_name_to_the_index(detector, tmp_path, capsys):
    folder = made(tmp_path / "in", "Index.wav", "b/index.wav", "index.flac.wav")
    out = tmp_path / "out"
    assert predict(detector, [folder], out, "html", "tsv") == 0
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.html")} == {
        *("Index.wav.html", "b/index.html", "index.flac.html", INDEX_FILE),
    }
    # Other formats keep their names.
    assert (out / "Index.tsv").exists() and (out / "index.flac.tsv").exists()
    assert f"pages of all recordings: {out / INDEX_FILE}" in capsys.readouterr().out
    # Alone it needs no index.
    assert predict(detector, [folder / "Index.wav"], tmp_path / "alone") == 0
    assert [path.name for path in (tmp_path / "alone").glob("*.html")] == ["Index.wav.html"]
    assert "pages of all" not in capsys.readouterr().out


def test_without_an_ending_too():
    one = Recording(Path("x/index"), "index")
    assert paths_of(Path(), one, ["html", "tsv"]) == {
        "html": Path("index.recording.html"),
        "tsv": Path("index.tsv"),
    }


@pytest.mark.parametrize(
    "names", [("index.wav", "Index.WAV.mp3"), ("INDEX", "index.recording.wav")]
)
def test_what_would_have_its_name_is_refused(detector, tmp_path, names):
    folder = made(tmp_path / "in", *names)
    inputs = [folder / name for name in names]
    with pytest.raises(InputError, match=r"in/.* and .*in/(?i:index.* would both write .*\.html)"):
        predict(detector, inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert predict(detector, inputs, tmp_path / "out", "tsv") == 0


def test_a_folder_called_like_the_index_is_refused(detector, tmp_path):
    folder = made(tmp_path / "in", "Index.HTML/a.wav", "b.wav")
    told = r"a\.wav would be written below index\.html, the index page of all recordings"
    with pytest.raises(InputError, match=told):
        predict(detector, [folder], tmp_path / "out")


def test_an_index_of_the_user_is_kept(detector, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / INDEX_FILE).write_text("of the user")
    with pytest.raises(InputError, match=r"would be replaced.*\n  - .*index\.html"):
        predict(detector, [folder], out)
    assert [path.name for path in out.iterdir()] == [INDEX_FILE]
    assert predict(detector, [folder / "a.wav"], out) == 0
    assert (out / INDEX_FILE).read_text() == "of the user"
    assert predict(detector, [folder], out, overwrite=True) == 0
    assert predict(detector, [folder], out) == 0  # now it is ours
    assert listed(out / INDEX_FILE) == ["a.html", "b/a.html", "%C3%A9%20c.html"]


# ---- the index


def test_skipped_recordings_stay_in_the_index_and_others_are_named(
    detector, folder, tmp_path, capsys
):
    out = tmp_path / "out"
    predict(detector, [folder], out)
    before = (out / INDEX_FILE).read_bytes()
    (out / "b/a.html").unlink()
    (out / INDEX_FILE).unlink()
    assert predict(detector, [folder], out, skip_existing=True) == 0
    assert (out / INDEX_FILE).read_bytes() == before
    (out / "a.html").write_text("<!doctype html>of the user")
    (folder / "b/a.wav").write_text("no sound")
    assert predict(detector, [folder], out, skip_existing=True) == 1
    told = capsys.readouterr().err
    assert "a.html: is not a page of this program, so index.html lacks it; remove it" in told
    assert listed(out / INDEX_FILE) == ["%C3%A9%20c.html"]


def test_pages_can_be_merged_without_a_network(detector, folder, tmp_path, capsys):
    out = tmp_path / "out"
    predict(detector, [folder], out)
    before = (out / INDEX_FILE).read_bytes()
    (out / INDEX_FILE).unlink()
    words = ("predict.py", folder, "--output_dir", out, "--merge", "html")
    assert run_main(*words, cwd=tmp_path).returncode == 0
    assert (out / INDEX_FILE).read_bytes() == before
    (out / "a.html").unlink()
    done = run_main(*words, cwd=tmp_path)
    assert done.returncode == 1 and "pages of 2 recordings" in done.stdout
    assert "1 recording (a.wav) has no results" in done.stderr
    (out / INDEX_FILE).write_text("of the user")
    done = run_main(*words, cwd=tmp_path)
    assert done.returncode == 2 and "index.html" in done.stderr


def test_a_summary_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "a.html"
    for counts in ({}, {"Dog": 3, "</script>é\u2028": 1}):
        path.write_text("<!doctype html>\n" + summary_text(r"a\xff</script>", 1.5, counts))
        assert read_summary(path) == (r"a\xff</script>", 1.5, counts)
    cut = path.read_text()[:-20]
    for text in (
        "",
        "<!doctype html>\n<p>",
        cut,
        cut.replace('"version":1', '"version":2') + " " * 20,
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=r".*"):
            read_summary(path)


# ---- what a page contains


def test_a_page_asks_for_nothing_from_elsewhere(detector, folder, tmp_path):
    predict(detector, [folder], tmp_path / "out", embedded_mb=0)
    for path in (tmp_path / "out").rglob("*.html"):
        text = re.sub(r"[A-Za-z0-9+/=]{200,}", "", path.read_text())
        assert not re.search(r"https?:|//[\w.]+\.\w+/|@import|url\(", text), path
        assert "default-src 'none'" in text


def test_other_files_are_as_without_pages(detector, folder, tmp_path):
    usual = ("tsv", "json", "txt", "png")
    predict(detector, [folder / "a.wav"], tmp_path / "one", *usual)
    predict(detector, [folder / "a.wav"], tmp_path / "two", *usual, "html")
    for path in (tmp_path / "one").rglob("*.*"):
        if path.suffix != ".jsonl":
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path


def test_a_document_has_its_parts_once_and_the_policy_its_digests():
    text = document("page", SCRIPTS, {**dict.fromkeys(PARTS, "{{data}}"), "data": "<&>"})
    assert text.count("<&>") == 1 and text.count("{{data}}") == len(PARTS) + 1  # the title twice
    assert len(re.findall(r"'sha256-[\w+/]+='", text)) == 2
    assert set(ASSETS.iterdir()) == {
        ASSETS / name
        for name in (
            *SCRIPTS,
            "index.js",
            "common.css",
            "page.css",
            "page.html",
            "index.css",
            "index.html",
        )
    }


PARTS = ("title", "picture", "scores", "sound", "summary")


def test_data_cannot_leave_its_element():
    text = data_block("x", {"</script><!--": "&\u2028\udcff"})
    assert text.count("<") == 2 and text.isascii() and "&" not in text


# ---- sound


def test_what_is_embedded_and_what_is_linked(tmp_path):
    path = made(tmp_path, "a b#é.wav", seconds=2) / "a b#é.wav"
    page = tmp_path / "out" / "p.html"
    size_mb = path.stat().st_size / 1e6
    assert sound_of(path, page, embedded_mb=size_mb).embedded == path.read_bytes()
    linked = sound_of(path, page, embedded_mb=size_mb * 0.999)
    assert linked.embedded is None and linked.note == ""
    assert linked.urls == ("../a%20b%23%C3%A9.wav", f"file://{quoted(str(path))}")


def test_what_browsers_do_not_play_is_copied_if_it_is_small(tmp_path):
    path = tmp_path / "a.aiff"
    noise = 0.5 * np.random.default_rng(0).normal(size=(RATE * 3, 2))
    sf.write(path, noise, RATE)
    assert needs_copy(path)
    found = sound_of(path, tmp_path / "p.html", embedded_mb=1)
    (tmp_path / "copy.flac").write_bytes(found.embedded)
    copy, rate = sf.read(tmp_path / "copy.flac")
    assert rate == RATE
    heard = np.clip(noise, -1, 1).mean(axis=1)  # AIFF of 16 bits clips, too
    np.testing.assert_allclose(copy, heard, atol=2e-4)
    large = sound_of(path, tmp_path / "p.html", embedded_mb=0.01)
    assert large.embedded is None and large.urls[0] == "a.aiff"
    assert large.note.startswith("Not all browsers play this recording (AIFF)")


def test_a_recording_that_is_gone_by_then_is_linked_nevertheless(tmp_path):
    gone = sound_of(tmp_path / "gone.wav", tmp_path / "p.html")
    assert gone.embedded is None and gone.urls[0] == "gone.wav"


def test_a_copy_that_becomes_too_large_is_not_kept():
    copy = SoundCopy(RATE, 50_000)
    noise = np.random.default_rng(0).normal(size=(50, RATE)).astype(np.float32)
    assert len(list(copy.watch(iter(noise)))) == 50
    assert copy.content is None
    copy = SoundCopy(RATE, 50_000)
    list(copy.watch(iter(noise[:1])))
    assert copy.content.startswith(b"fLaC")


def test_addresses_are_encoded_whatever_bytes_they_have(tmp_path):
    target = tmp_path / os.fsdecode(b"a\xff:\n%20?.wav")
    relative, absolute = addresses(target, tmp_path / "x" / "y" / "p.html")
    assert relative == "../../a%FF%3A%0A%2520%3F.wav"
    assert absolute == f"file://{quoted(str(tmp_path))}/a%FF%3A%0A%2520%3F.wav"


# ---- the picture


def test_the_spectrogram_has_a_pixel_per_column_and_band(tmp_path):
    mel = MelImage({}, most_columns=8000)
    time_s = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 1000 * time_s) * (time_s < 1)
    list(mel.watch([tone.astype(np.float32)]))
    png = mel_png(mel)
    (tmp_path / "a.png").write_bytes(png)
    image = imread(tmp_path / "a.png")
    assert image.shape[:2] == mel.decibel.shape
    brightness = image[..., :3].sum(axis=2)
    places = dict(tick_places(mel))
    assert list(places) == ["0.2", "0.5", "1", "2", "4", "8"]
    assert all(a < b for a, b in pairwise(places.values()))
    row = brightness.shape[0] * (1 - places["1"])
    assert abs(brightness[:, 20].argmax() - row) < 2
    assert brightness[:, -20].max() < brightness[:, 20].max() / 2  # silence is dark
    assert zlib.crc32(png) == zlib.crc32(mel_png(mel))


def test_a_recording_that_fails_leaves_no_page(detector, folder, tmp_path):
    (folder / "a.wav").write_text("no sound")
    found = find_recordings([folder]).recordings
    output = Output(tmp_path / "out", ("html",), False, {})
    summary = detect_recordings(
        detector, found, output, threshold=0.5, progress=False, of_all=[INDEX_FILE]
    )
    assert summary.n_done == 2 and not (tmp_path / "out/a.html").exists()
    assert listed(tmp_path / "out" / INDEX_FILE) == ["b/a.html", "%C3%A9%20c.html"]
