"""Pages in a real browser: what they draw, play and export is what Python says."""

from __future__ import annotations

import os
import random
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import soundfile as sf
import yaml

from desed_task.checkpoints.spec import build_detector
from desed_task.file_names import escape_name
from desed_task.inference.detector import (
    DetectionResult,
    SoundEvent,
    SoundEventDetector,
)
from desed_task.postprocess.calibration import Calibration, IsotonicCurve
from desed_task.postprocess.decoders import DecoderSettings
from desed_task.postprocess.event_rules import EventRules
from local.cli.arguments import parse_threshold
from local.predict.mel_image import MelImage
from local.predict.outputs import Prediction, write_events, write_labels
from local.predict.pages.content import MEL_COLUMNS, PageContent, PageRules, PageTruth
from local.predict.pages.page import write_page
from local.predict.pages.sound import PageSound, sound_of
from local.predict.predict_all import Output, predict_all
from local.predict.recordings import find_recordings
from tests.desed_task.checkpoints.example_checkpoints import small_spec, tensors
from tests.local.predict.pages.chromium import Tab, chromium

RATE = 16000
PAGE = "page.html"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads):
    with chromium(downloads) as driver:
        yield driver


@pytest.fixture
def tab(browser):
    tab = Tab(browser)
    tab.open("data:text/html,<html data-ready=yes>")
    tab.requests(), tab.complaints()
    yield tab
    assert tab.complaints() == []


def address(path: Path) -> str:
    return "file://" + quote(os.fsencode(path))


# ---- pages of predict.py

ODD = (
    b"plain.wav",
    b"\"'><img src=x onerror=alert(1)><script>document.title='broken'&amp;.wav",
    b"line\nbreak\tand #?%41 \xff.wav",
    "日本 é <!--.wav".encode(),
    b"{{data}} javascript:alert(1).wav",
)


@pytest.fixture(scope="module")
def detector():
    spec = small_spec(use_embeddings=False)
    return SoundEventDetector(build_detector(spec, tensors(spec), "small"))


@pytest.fixture(scope="module")
def limits(detector):
    """Thresholds in the midst of the scores of noise, so that there are many events."""
    noise = 0.1 * np.random.default_rng(0).normal(size=4 * RATE)
    scores = detector.detect(noise, RATE).scores
    return {label: float(np.quantile(scores[:, c], 0.6)) for c, label in enumerate(detector.labels)}


@pytest.fixture(scope="module")
def predicted(detector, limits, tmp_path_factory):
    """The output folder of a folder of recordings with odd names, whose sound is linked."""
    root = tmp_path_factory.mktemp("predicted")
    names = [os.fsdecode(name) for name in ODD]
    for number, name in enumerate(["sub/index.wav", "Index.wav", *names]):
        path = root / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * np.random.default_rng(number).normal(size=RATE + 5000 * number)
        sf.write(os.fsencode(path), noise, RATE, format="WAV")
    output = Output(
        root / "out", ("tsv", "txt", "html"), False, {"checkpoint": "<b>.ckpt"}, embedded_mb=0
    )
    found = find_recordings([root / "in"])
    assert predict_all(detector, found, output, threshold=limits) == 0
    return root / "out"


def exported(tab) -> tuple[bytes, bytes]:
    texts = tab.js("return [eventTable(thePage, thePage.events), labelTrack(thePage.events)]")
    return texts[0].encode(), texts[1].encode()


@pytest.mark.parametrize("name", ODD)
def test_of_any_name_it_exports_what_was_written_and_plays_the_recording(tab, predicted, name):
    stem = predicted / os.fsdecode(name.removesuffix(b".wav"))
    path = Path(f"{stem}.html")
    tab.open(address(path))
    shown = escape_name(os.fsdecode(name))
    assert tab.driver.title.split() == shown.split() and tab.text("h1") == shown
    assert exported(tab) == (Path(f"{stem}.tsv").read_bytes(), Path(f"{stem}.txt").read_bytes())
    assert "<b>.ckpt" in tab.text("#about")
    tab.wait(lambda: tab.js("return thePage.player.state") == "ready")
    assert not tab.find("#note").is_displayed()
    # Nothing but the page and its recording; names are texts and neither addresses nor programs.
    requests = [one for one in tab.requests() if not one.startswith("data:")]
    assert {*requests[1:]} == {address(predicted.parent / "in" / os.fsdecode(name))}
    assert requests[0] == address(path)


def test_what_is_saved_is_what_was_written(tab, predicted, downloads):
    tab.open(address(predicted / "plain.html"))
    tab.click("#export")
    for kind in ("tsv", "txt"):
        tab.click(f"#save-{kind}")
        saved = downloads / f"plain.{kind}"
        tab.wait(saved.exists)
        assert saved.read_bytes() == (predicted / f"plain.{kind}").read_bytes()


def test_moved_thresholds_change_events_as_in_python(tab, detector, limits, predicted, tmp_path):
    """By keys and by number; the exported thresholds give the command the same events."""
    tab.open(address(predicted / "plain.html"))
    first, second, *_ = (row for row in tab.js("return thePage.rows.map((row) => row.label)"))
    before = tab.text("#about")
    slider = f"[data-label='{first}'] input[type=range]"
    tab.find(slider).send_keys("\ue014" * 2)  # to the right
    number = tab.find(f"[data-label='{second}'] input[type=number]")
    for text in ("1.5", "0.125"):  # only the second one is a threshold
        number.send_keys("\ue009a\ue009" + text + "\n")
    tab.click("h1")
    tab.drawn()
    moved = {
        **limits,
        first: tab.js("return thePage.thresholds[0]"),
        second: 0.125,
    }
    assert 0.01 < moved[first] - limits[first] < 0.03
    flag, yaml_text = tab.js(
        "return [thresholdFlag(thePage.data.labels, thePage.thresholds), "
        "thresholdYaml(thePage.data.labels, thePage.thresholds)]"
    )
    given = parse_threshold(flag.removeprefix('--threshold "').removesuffix('"'))
    assert given == yaml.safe_load(yaml_text)["predict"]["threshold"] == moved
    recording = predicted.parent / "in" / "plain.wav"
    samples, rate = sf.read(recording)
    found = detector.detect(samples, rate, threshold=given)
    prediction = Prediction(recording, found, moved, None, {})
    write_events(tmp_path / "e.tsv", prediction)
    write_labels(tmp_path / "e.txt", prediction)
    assert exported(tab) == ((tmp_path / "e.tsv").read_bytes(), (tmp_path / "e.txt").read_bytes())
    counts = {label: sum(one.label == label for one in found.events) for label in (first, second)}
    for label, n in counts.items():
        assert tab.text(f"[data-label='{label}'] .count") == f"{n} event" + "s" * (n != 1)
    assert tab.text("#about") != before and f"{len(found.events)} event" in tab.text("#about")
    tab.click("#reset")
    tab.drawn()
    assert exported(tab)[0] == (predicted / "plain.tsv").read_bytes()
    assert tab.text("#about") == before


def test_events_of_a_decoder_of_boxes_are_those_of_the_command(tab, tmp_path):
    spec = small_spec(use_embeddings=False)
    settings = DecoderSettings(kind="boxes", step_filter_s=0.128, merge_abs=0.0, merge_rel=None)
    spec = replace(spec, decoder=settings.to_plain())
    detector = SoundEventDetector(build_detector(spec, tensors(spec), "small"))
    path = tmp_path / "in" / "a.wav"
    path.parent.mkdir()
    sf.write(path, 0.1 * np.random.default_rng(0).normal(size=3 * RATE), RATE)
    middle = {}
    for box in detector.detect(*sf.read(path)).boxes:
        middle.setdefault(box.label, []).append(box.confidence)
    limits = {label: float(np.median(values)) for label, values in middle.items()}
    output = Output(tmp_path / "out", ("tsv", "txt", "html"), False, {})
    assert predict_all(detector, find_recordings([path]), output, threshold=limits) == 0
    tab.open(address(tmp_path / "out" / "a.html"))
    files = [(tmp_path / "out" / f"a.{kind}").read_bytes() for kind in ("tsv", "txt")]
    assert list(exported(tab)) == files and files[0].count(b"\n") > 20
    lower = {**limits, "Dog": 0.0}
    tab.js("thePage.setThreshold(thePage.data.labels.indexOf('Dog'), 0)")
    events = detector.detect(*sf.read(path), threshold=lower).events
    assert tab.js("return thePage.events.length") == len(events)


def test_rules_and_calibration_of_the_command_hold_on_the_page(tab, limits, tmp_path):
    spec = small_spec(use_embeddings=False)
    curve = IsotonicCurve((0.1, 0.5, 0.9), (0.05, 0.3, 0.95))
    n_events = {"Dog": 60, "Cat": 3, "Speech": 70}
    calibration = Calibration(
        "isotonic", {"Dog": curve}, IsotonicCurve((0.2, 0.8), (0.1, 0.7)), n_events
    )
    detector = SoundEventDetector(build_detector(spec, tensors(spec), "small"))
    chosen = replace(detector.post_processing, calibration=calibration)
    detector.post_processing = chosen
    path = tmp_path / "in" / "a.wav"
    path.parent.mkdir()
    sf.write(path, 0.1 * np.random.default_rng(1).normal(size=5 * RATE), RATE)
    rules = EventRules(
        low_threshold={"Dog": limits["Dog"], "car": limits["car"] - 0.05},
        min_duration_s={"Speech": 0.128, "Dishes": 0.192},
        merge_gap_s=0.1,
        merged_classes={"any alarm, or <cat>": ["Alarm_bell_ringing", "Cat", "Dog"]},
    )
    output = Output(tmp_path / "out", ("tsv", "txt", "html"), False, {})
    found = find_recordings([path])
    assert predict_all(detector, found, output, threshold=limits, rules=rules) == 0
    tab.open(address(tmp_path / "out" / "a.html"))
    files = [(tmp_path / "out" / f"a.{kind}").read_bytes() for kind in ("tsv", "txt")]
    assert list(exported(tab)) == files and files[0].count(b"\n") > 20
    assert b"any alarm, or <cat>" in files[0] and b"\tDog\t" not in files[0]
    # A lower threshold that was without effect has one when the upper one is raised.
    moved = {**limits, "Dog": limits["Dog"] + 0.02, "car": limits["car"] + 0.03}
    for label in ("Dog", "car"):
        number = f"thePage.data.labels.indexOf('{label}')"
        tab.js(f"thePage.setThreshold({number}, {moved[label]!r})")
    events = detector.detect(*sf.read(path), threshold=moved, rules=rules).events
    page = tab.js("return thePage.events.map((e) => [e.onset, e.offset, e.label, e.confidence])")
    assert [tuple(one) for one in page] == [tuple(one) for one in events]


def test_the_index_leads_to_pages_sorts_and_filters(tab, predicted):
    tab.open(address(predicted / "index.html"))
    names = "return [...document.querySelectorAll('tbody a')].map((a) => a.textContent)"
    listed = tab.js(names)
    assert set(listed) == {
        "Index.wav",
        "sub/index.wav",
        *(escape_name(os.fsdecode(one)) for one in ODD),
    }
    links = tab.js("return [...document.querySelectorAll('tbody a')].map((a) => a.href)")
    assert all(link.startswith("file://") for link in links)
    column = "thead th:nth-child({}) button"
    values = "return [...document.querySelectorAll('tbody tr')].map((r) => r.cells[{}].textContent)"
    for number in (3, 4):  # all events, and those of the class with most
        tab.click(column.format(number))
        falling = [int(text) for text in tab.js(values.format(number - 1))]
        assert falling == sorted(falling, reverse=True) and falling[0] > falling[-1]
        tab.click(column.format(number))
        assert [int(text) for text in tab.js(values.format(number - 1))] == sorted(falling)
    tab.click(column.format(1))
    assert tab.js(names) != listed and set(tab.js(names)) == set(listed)
    rows = (predicted / "plain.tsv").read_text().splitlines()[1:]
    place = tab.js(names).index("plain.wav")
    assert tab.js(values.format(2))[place] == str(len(rows))
    assert tab.js(values.format(1))[place] == "1.6 s"
    tab.find("#name").send_keys("É <")
    assert tab.js(names) == ["日本 é <!--.wav"] and tab.text("#shown") == "1 of 7"
    requests = [one for one in tab.requests() if not one.startswith("data:")]
    assert requests == [address(predicted / "index.html")]
    tab.click("tbody a", 0.1)
    tab.wait(lambda: tab.text("h1") == "日本 é <!--.wav")


# ---- made-up pages

LABELS = ("Dog", "door opens/closes", "Cat", "Speech")


def recording(path: Path, seconds: float, rate: int = RATE) -> Path:
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    sf.write(path, tone, rate)
    return path


def mel_of(seconds: float) -> MelImage:
    mel = MelImage({}, most_columns=MEL_COLUMNS)
    noise = np.random.default_rng(0).normal(size=int(RATE * min(seconds, 20))) * 0.1
    list(mel.watch([noise.astype(np.float32)]))
    return mel


def content_of(scores, duration_s=None, *, thresholds=None, **others) -> PageContent:
    scores = np.asarray(scores, dtype=np.float32)
    duration_s = duration_s or len(scores) * 0.064
    boundaries_s = np.minimum(np.arange(len(scores) + 1) * 4 / 62.5, duration_s)
    labels = LABELS[: scores.shape[1]]
    limits = thresholds or dict.fromkeys(labels, 0.5)
    events = EventRules().of_classes(labels, limits).events_of_scores(scores, boundaries_s).events
    return PageContent(
        "made up.wav",
        duration_s,
        labels,
        boundaries_s,
        scores,
        limits,
        events,
        mel_of(duration_s),
        **others,
    )


def of_page(tab):
    """Events on the page: label -> (onset, offset, confidence), confidences to 1e-9."""
    found = tab.js(
        "return thePage.rows.map((row) => [row.label, row.isWritten, "
        "row.events.map((one) => [one.onset, one.offset, one.confidence])])"
    )
    return {label: [tuple(one) for one in events] for label, _, events in found}


def blocks(*spans, n=40):
    """(frame,) scores that are 0.9, or given, in spans of frames."""
    scores = np.full(n, 0.1)
    for first, last, *value in spans:
        scores[first:last] = value or 0.9
    return scores


@pytest.fixture
def clip(tab, tmp_path):
    """A page of 10 s with two events of the first class and one of the second, and its sound."""
    scores = np.zeros((156, 3))
    scores[20:30, 0], scores[100:110, 0], scores[60:80, 1] = 0.9, 0.8, 0.75
    sound = sound_of(recording(tmp_path / "tone.wav", 10.0), tmp_path / PAGE)
    write_page(tmp_path / PAGE, content_of(scores, 10.0, sound=sound))
    tab.open(address(tmp_path / PAGE))
    tab.wait(lambda: tab.js("return thePage.player.state") == "ready")
    return tab


def place(tab) -> float:
    return tab.js("return thePage.player.place")


def test_a_click_on_an_event_plays_it_to_its_end(clip):
    clip.click("[data-label=Dog] canvas", (25 * 0.064) / 10)
    assert clip.js("return thePage.player.playing")
    assert 1.28 <= place(clip) < 1.92
    left = "return getComputedStyle(document.querySelector('#cursor')).left"
    early = float(clip.js(left).removesuffix("px"))
    clip.wait(lambda: not clip.js("return thePage.player.playing"))
    assert 1.92 <= clip.js("return thePage.player.audio.currentTime") < 2.4
    clip.wait(lambda: float(clip.js(left).removesuffix("px")) > early)
    assert clip.text("#status") == "Dog 1.28 to 1.92 s, confidence 0.90"
    # Embedded, so that nothing but the page was opened.
    assert {one.partition(":")[0] for one in clip.requests()} == {"file", "data", "blob"}


def test_a_click_elsewhere_goes_there(clip):
    clip.click("[data-label=Dog] canvas", 0.5)
    assert place(clip) == pytest.approx(5.0, abs=0.02)
    assert not clip.js("return thePage.player.playing")
    clip.click("#spectrogram", 0.75)
    clip.wait(lambda: clip.js("return thePage.player.audio.currentTime") > 7)
    assert place(clip) == pytest.approx(7.5, abs=0.02)


def test_keys(clip):
    view = "return [thePage.view.start, thePage.view.end]"
    said = []
    for _ in range(4):
        clip.press("n")
        said.append(clip.text("#status"))
    assert [text.split(" ")[0] for text in said] == ["Dog", "door", "Dog", "no"]
    clip.press("p")
    assert clip.text("#status").startswith("door opens/closes 3.84 to 5.12")
    assert place(clip) == pytest.approx(3.84)
    clip.press("\ue007")  # enter
    clip.wait(lambda: clip.js("return thePage.player.playing"))
    clip.press(" ")
    clip.wait(lambda: not clip.js("return thePage.player.playing"))
    clip.press(" ")
    clip.wait(lambda: clip.js("return thePage.player.playing"))
    clip.press(" ", "\ue011")  # pause, home
    assert place(clip) == 0
    clip.press("\ue014")
    assert place(clip) == pytest.approx(0.2)
    clip.press("\ue010", "\ue012")  # end, left
    assert place(clip) == pytest.approx(9.8)
    clip.press("++")
    start, end = clip.js(view)
    assert end - start == pytest.approx(2.5) and start < 9.8 < end
    clip.press("-")
    assert np.diff(clip.js(view)) == pytest.approx(5)
    clip.press("0")
    assert clip.js(view) == [0, 10]
    clip.press("?")
    assert clip.js("return document.querySelector('#keys').open")
    clip.press("n", "\ue00c")  # escape
    assert not clip.js("return document.querySelector('#keys').open")
    # What has the focus keeps its keys.
    clip.find("[data-label=Dog] input[type=range]").send_keys("\ue012")
    assert clip.js("return thePage.thresholds[0]") == 0.49
    clip.press("+")
    shown = clip.js(view)
    clip.find("[data-label=Dog] input[type=number]").send_keys("\ue009a\ue0090.75+n")
    assert clip.js(view) == shown and place(clip) == pytest.approx(9.8)


def test_quiet_classes_are_folded_away(clip):
    assert not clip.find("[data-label=Cat]").is_displayed()
    assert clip.text("#folded") == "Show all classes (1 folded)"
    clip.click("#folded")
    clip.drawn()
    assert clip.find("[data-label=Cat]").is_displayed()
    clip.press("a")
    clip.drawn()
    assert not clip.find("[data-label=Cat]").is_displayed()


def test_single_events_are_listed_with_buttons(clip):
    clip.click("#list summary", 0.02)
    cells = "return [...document.querySelectorAll('#list tbody tr')].map((r) => r.innerText)"
    rows = clip.wait(lambda: clip.js(cells))
    assert [row.split("\t")[:4] for row in rows] == [
        ["1.280", "1.920", "Dog", "0.9000"],
        ["3.840", "5.120", "door opens/closes", "0.7500"],
        ["6.400", "7.040", "Dog", "0.8000"],
    ]
    clip.js("document.querySelectorAll('#list tbody button')[1].click()")
    assert 3.84 <= place(clip) < 5.12


def pixels(tab, selector, part):
    """Colours of the column of a canvas at a part of its width."""
    return tab.js(
        "const c = document.querySelector(arguments[0]); const x = Math.floor(c.width * "
        "arguments[1]); return [...c.getContext('2d').getImageData(x, 0, 1, c.height).data]",
        selector,
        part,
    )


def colours_in(values):
    return {tuple(values[i : i + 3]) for i in range(0, len(values), 4)}


ORANGE, GREEN = (255, 127, 14), (44, 160, 44)


def test_events_are_drawn_where_they_are(clip):
    canvas = "[data-label=Dog] canvas"
    assert ORANGE in colours_in(pixels(clip, canvas, 1.6 / 10))
    assert ORANGE not in colours_in(pixels(clip, canvas, 3.0 / 10))
    clip.js("thePage.setView(6, 8)")
    clip.drawn()
    assert ORANGE in colours_in(pixels(clip, canvas, 0.7 / 2))
    assert ORANGE not in colours_in(pixels(clip, canvas, 1.2 / 2))


def test_dark_and_light(clip):
    background = "return getComputedStyle(document.body).backgroundColor"
    light = clip.js(background)
    for value in ("dark", "light"):
        features = [{"name": "prefers-color-scheme", "value": value}]
        clip.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        clip.wait(lambda value=value: (clip.js(background) == light) == (value == "light"))


def test_a_slider_ends_below_1_and_the_wheel_moves_and_zooms(clip):
    slider = clip.find("[data-label=Dog] input[type=range]")
    clip.js("arguments[0].value = 5; arguments[0].dispatchEvent(new Event('input'))", slider)
    clip.drawn()
    assert clip.js("return thePage.thresholds[0]") == 0.99
    assert clip.text("#status") == "Dog: 0 events"
    wheel = (
        "document.querySelector('#spectrogram').dispatchEvent(new WheelEvent('wheel', "
        "{bubbles: true, cancelable: true, clientX: arguments[0], ...arguments[1]})); "
        "return [thePage.view.start, thePage.view.end]"
    )
    rectangle = clip.find("#spectrogram").rect
    middle = rectangle["x"] + rectangle["width"] / 2
    start, end = clip.js(wheel, middle, {"deltaY": -100, "ctrlKey": True})
    assert (start, end) == (pytest.approx(1, abs=0.02), pytest.approx(9, abs=0.02))
    assert clip.js(wheel, middle, {"deltaY": 50}) == [start, end]
    for move in (
        {"deltaX": 50},
        {"deltaX": 50, "shiftKey": True},
        {"deltaY": 50, "shiftKey": True},
    ):
        before, start = start, clip.js(wheel, middle, move)[0]
        assert start > before
    assert clip.js("return thePage.view.end") <= 10


def test_annotated_events_and_what_is_made_of_them(tab, tmp_path):
    scores = np.stack([blocks((0, 10), (20, 30)), blocks()], axis=1)
    truth = PageTruth(
        (
            SoundEvent(0.0, 0.6, "Dog", 1.0),  # found
            SoundEvent(0.7, 1.2, "Dog", 1.0),  # missed, and what is detected is elsewhere
            SoundEvent(2.0, 2.5, "door opens/closes", 1.0),  # missed, without any detection
        )
    )
    write_page(tmp_path / PAGE, content_of(scores, truth=truth))
    tab.open(address(tmp_path / PAGE))
    assert tab.text("[data-label=Dog] .count") == "1 of 2 found, 1 false"
    other = "[data-label='door opens/closes']"
    assert tab.text(f"{other} .count") == "0 of 1 found, 0 false"
    assert tab.find(other).is_displayed()
    column = pixels(tab, "[data-label=Dog] canvas", 0.3 / 2.56)
    assert {ORANGE, GREEN} <= colours_in(column)
    tab.js("thePage.setThreshold(0, 0.95)")
    tab.drawn()
    assert tab.text("[data-label=Dog] .count") == "0 of 2 found, 0 false"


def test_a_recording_that_is_gone_or_of_no_format_is_named(tab, tmp_path):
    path = recording(tmp_path / "to ne.wav", 2.0)
    sound = sound_of(path, tmp_path / PAGE, embedded_mb=0)
    write_page(tmp_path / PAGE, content_of(np.stack([blocks((5, 9))], axis=1), sound=sound))
    path.write_bytes(b"no sound at all")
    tab.open(address(tmp_path / PAGE))
    tab.wait(lambda: tab.js("return thePage.player.state") == "failed")
    path.unlink()
    tab.open(address(tmp_path / PAGE))
    tab.wait(lambda: tab.js("return thePage.player.state") == "failed")
    assert tab.text("#note").startswith("No sound: the recording at to ne.wav cannot be played")
    assert not tab.find("#play").is_enabled()
    tab.press("n")
    assert place(tab) == pytest.approx(0.32)
    assert tab.complaints() and len(of_page(tab)["Dog"]) == 1


def test_a_page_that_was_moved_finds_the_recording_by_its_absolute_address(tab, tmp_path):
    path = recording(tmp_path / "tone.wav", 2.0)
    sound = sound_of(path, tmp_path / "out" / PAGE, embedded_mb=0)
    write_page(tmp_path / "out" / PAGE, content_of(np.stack([blocks()], axis=1), sound=sound))
    (tmp_path / "a" / "b").mkdir(parents=True)
    shutil.move(tmp_path / "out" / PAGE, tmp_path / "a" / "b" / PAGE)
    tab.open(address(tmp_path / "a" / "b" / PAGE))
    tab.wait(lambda: tab.js("return thePage.player.state") == "ready")
    assert tab.complaints()  # that of the relative one


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.aiff", {}),
        ("a.caf", {"subtype": "FLOAT"}),
        ("a.wav", {"subtype": "DOUBLE"}),
        ("a.wav", {"channels": 4}),
        ("a.wav", {"subtype": "PCM_24", "channels": 2}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.mp3", {}),
    ],
)
def test_sounds_of_all_kinds_are_played(tab, tmp_path, name, options):
    channels = options.get("channels", 1)
    tone = 0.2 * np.sin(np.arange(RATE) / 10)
    samples = np.repeat(tone[:, None], channels, axis=1)
    sf.write(tmp_path / name, samples, RATE, subtype=options.get("subtype"))
    sound = sound_of(tmp_path / name, tmp_path / PAGE)
    write_page(tmp_path / PAGE, content_of(np.stack([blocks(n=15)], axis=1), sound=sound))
    tab.open(address(tmp_path / PAGE))
    tab.wait(lambda: tab.js("return thePage.player.state") == "ready")
    assert tab.js("return thePage.player.audio.duration") == pytest.approx(1.0, abs=0.06)
    is_copy = name in ("a.aiff", "a.caf") or options in ({"subtype": "DOUBLE"}, {"channels": 4})
    assert ("a copy of what the network heard" in tab.text("#note")) == is_copy


# ---- rules


# In floats, the gap from frame 7 to 9 and the event from 15 to 18 are shorter than 2 and 3 frames.
RULES = {
    "plain": (PageRules(), [(3, 7), (9, 11), (15, 18), (20, 30)]),
    "hysteresis": (PageRules(low={"Dog": 0.3}), [(3, 11), (15, 18), (20, 30)]),
    "a gap": (PageRules(merge_gap_s={"Dog": 0.1281}), [(3, 11), (15, 30)]),
    "no gap": (PageRules(merge_gap_s={"Dog": 0.128}), [(3, 7), (9, 11), (15, 18), (20, 30)]),
    "short ones": (PageRules(min_duration_s={"Dog": 0.192}), [(3, 7), (15, 18), (20, 30)]),
    "all": (PageRules({"Dog": 0.3}, {"Dog": 0.8}, {"Dog": 1.0}), [(3, 30)]),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_in_their_order(tab, tmp_path, name):
    rules, spans = RULES[name]
    scores = blocks((3, 7), (7, 9, 0.4), (9, 11), (12, 14, 0.45), (15, 18), (20, 30, 0.7))[:, None]
    write_page(tmp_path / PAGE, content_of(scores, rules=rules))
    tab.open(address(tmp_path / PAGE))
    scores = scores.astype(np.float32)
    assert of_page(tab)["Dog"] == [
        (a * 4 / 62.5, b * 4 / 62.5, float(scores[a:b].mean(dtype=np.float64))) for a, b in spans
    ]


def test_merged_classes_have_a_row_from_their_members(tab, tmp_path):
    scores = np.stack([blocks((2, 5)), blocks((5, 9, 0.8)), blocks((20, 30)), blocks()], axis=1)
    rules = PageRules(merged={"any alarm <b>": ("Dog", "door opens/closes")})
    write_page(tmp_path / PAGE, content_of(scores, rules=rules))
    tab.open(address(tmp_path / PAGE))
    found = of_page(tab)["any alarm <b>"]
    assert [one[:2] for one in found] == [(2 * 4 / 62.5, 9 * 4 / 62.5)]
    assert found[0][2] == float(np.float32(0.9))
    labels = [line.split("\t")[3] for line in exported(tab)[0].decode().splitlines()[1:]]
    assert labels == ["any alarm <b>", "Cat"]
    tab.js("thePage.setThreshold(0, 0.95)")
    tab.drawn()
    assert [one[:2] for one in of_page(tab)["any alarm <b>"]] == [(5 * 4 / 62.5, 9 * 4 / 62.5)]
    assert tab.text("[data-label='any alarm <b>'] .members") == "any of Dog, door opens/closes"


def test_boxes_above_the_threshold_are_events(tab, tmp_path):
    given = [(0.1, 0.3, 0.9), (0.4, 1.0, 0.6), (1.5, 2.0, 0.3)]
    boxes = tuple(SoundEvent(a, b, "Dog", c) for a, b, c in given)
    rules = PageRules(merge_gap_s={"Dog": 0.2})
    one = np.stack([blocks()], axis=1)
    for chosen, expected in (
        (PageRules(), given[:2]),
        (rules, [(0.1, 1.0, pytest.approx((0.9 * 0.2 + 0.6 * 0.6) / 0.8))]),
    ):
        write_page(tmp_path / PAGE, content_of(one, boxes=boxes, rules=chosen))
        tab.open(address(tmp_path / PAGE))
        assert of_page(tab)["Dog"] == expected
    tab.js("thePage.setThreshold(0, 0.2)")
    assert of_page(tab)["Dog"][1] == given[2]


def test_confidences_are_calibrated(tab, tmp_path):
    curve = {"confidence": [0.2, 0.8, 1.0], "probability": [0.1, 0.5, 0.9]}
    rules = PageRules(calibration={"Dog": curve, "Cat": {"temperature": 2.0}})
    scores = np.stack([blocks((2, 5)), blocks((2, 5)), blocks((2, 5))], axis=1)
    write_page(tmp_path / PAGE, content_of(scores, rules=rules))
    tab.open(address(tmp_path / PAGE))
    mean = float(np.float32(0.9))
    found = of_page(tab)
    assert found["Dog"][0][2] == pytest.approx(np.interp(mean, *curve.values()), abs=1e-15)
    assert found["door opens/closes"][0][2] == mean
    assert found["Cat"][0][2] == pytest.approx(1 / (1 + np.sqrt((1 - mean) / mean)), abs=1e-12)


# ---- numbers


def test_numbers_are_written_as_python_writes_them(clip):
    draw = random.Random(0)
    numbers = [k / 2**n for n in range(1, 9) for k in (1, 3, 5, 7, 9, 25, 625, 3125)]
    numbers += [draw.random() for _ in range(500)] + [k * 4 / 62.5 for k in range(500)]
    numbers += [0.0, 1e-9, 0.99995, 0.99994999, 3599.9995, 1 / 3, 0.5, 2.5e-5, 56250 * 0.064]
    for digits in (2, 3, 4, 6):
        program = f"return arguments[0].map((x) => fixed(x, {digits}))"
        assert clip.js(program, numbers) == [f"{x:.{digits}f}" for x in numbers]
    texts = clip.js("return arguments[0].map(numeral)", [*numbers, 1e-7, 1.5e-8])
    read = [yaml.safe_load(text) for text in texts]
    assert read == [*numbers, 1e-7, 1.5e-8] == [float(text) for text in texts]


def test_texts_are_sorted_as_python_sorts_them(clip):
    texts = ["b", "a", "B", "é", "e\u0301", "z", "\U0001f600", "\uff5e", "", "ab", "a b"]
    assert clip.js("return arguments[0].sort(compareText)", texts) == sorted(texts)


def test_thresholds_of_labels_with_separators_are_given_as_yaml(clip):
    labels = ["a, b", "c=d", "e, f", "it's", '$x "y"', "- :#"]
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert clip.js("return thresholdFlag(arguments[0], arguments[1])", labels, values) is None
    text = clip.js("return thresholdYaml(arguments[0], arguments[1])", labels, values)
    assert yaml.safe_load(text)["predict"]["threshold"] == dict(zip(labels, values, strict=True))
    flag = clip.js("return thresholdFlag(arguments[0], arguments[1])", labels[2:], values[2:])
    (_, value) = shlex.split(flag)
    assert parse_threshold(value) == dict(zip(labels[2:], values[2:], strict=True))


# ---- an hour


def test_an_hour_is_drawn_and_stays_whole(tab, tmp_path):
    """27 classes; short events are in sight, and each pixel has its highest score."""
    n = 56250
    draw = np.random.default_rng(0)
    scores = np.full((n, 4), 0.05, dtype=np.float32)
    scores[30000, 0] = 0.97  # one frame
    scores[:, 1] = draw.random(n)
    write_page(tmp_path / PAGE, content_of(scores, 3600.0, sound=PageSound(note="No sound here.")))
    tab.open(address(tmp_path / PAGE))
    assert tab.js("return Boolean(thePage.data.boundaries.rate_hz)")  # not 56251 numbers
    assert tab.text("#note") == "No sound here." and not tab.find("#play").is_enabled()
    boundaries_s = np.minimum(np.arange(n + 1) * 4 / 62.5, 3600)
    found = EventRules().of_classes(LABELS).events_of_scores(scores, boundaries_s).events
    labels, seconds = tab.js(
        "return [thePage.events.map((e) => e.label), thePage.events.map((e) => e.onset)]"
    )
    assert (labels, seconds) == ([one.label for one in found], [one.onset_s for one in found])
    canvas = "[data-label=Dog] canvas"
    columns = [colours_in(pixels(tab, canvas, (1920 / 3600) + k / 2000)) for k in (-1, 0, 1)]
    assert any(ORANGE in column for column in columns)
    highest = tab.js(
        "return [...highestPerPixel(thePage.scores[1], thePage.boundaries, thePage.view, 125)]"
    )
    assert highest == pytest.approx(scores[:, 1].reshape(125, 450).max(axis=1), abs=1e-7)
    tab.js("thePage.setView(1900, 1940)")
    tab.drawn()
    assert ORANGE in colours_in(pixels(tab, canvas, (1920.03 - 1900) / 40))
    assert len(tab.driver.find_elements("css selector", "#list tbody tr")) == 0
    tab.js("document.querySelector('#list').open = true; thePage.setView(0, 3600)")
    tab.wait(lambda: "zoom in to list them" in tab.text("#more"))
    assert len(tab.driver.find_elements("css selector", "#list tbody tr")) == 200


def test_what_does_not_fit_the_rule_of_frames_is_kept_too(tab, tmp_path):
    content = content_of(np.stack([blocks((3, 6))], axis=1))
    boundaries_s = content.boundaries_s.copy()
    boundaries_s[4:] += 1e-9
    scores = content.scores.astype(np.float64) + 1e-12
    write_page(tmp_path / PAGE, replace(content, boundaries_s=boundaries_s, scores=scores))
    tab.open(address(tmp_path / PAGE))
    (found,) = of_page(tab)["Dog"]
    assert found[:2] == (boundaries_s[3], boundaries_s[6])
    assert found[2] == scores[3:6].mean()


def test_a_clip_of_one_frame(tab, tmp_path):
    write_page(tmp_path / PAGE, content_of([[0.9, 0.1]], 0.01))
    tab.open(address(tmp_path / PAGE))
    assert of_page(tab) == {"Dog": [(0, 0.01, float(np.float32(0.9)))], "door opens/closes": []}
    tab.press("++-n0")
    tab.drawn()


def test_detection_results_of_any_kind_fit(tmp_path):
    """The names of the fields, so that a change of `DetectionResult` is seen here."""
    fields = {"duration_s", "labels", "boundaries_s", "unprocessed", "scores", "events"}
    assert fields <= set(DetectionResult.__dataclass_fields__)
