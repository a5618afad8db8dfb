"""The files of an error report: complete, self-contained, replaced as a whole, never in the way."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
import soundfile as sf

from desed_task.errors import InputError
from desed_task.evaluation.boxes import Boxes
from local.classes_dict import VOCABULARY
from local.config import load_config
from local.error_report import write
from local.error_report.findings import find_errors
from local.error_report.write import report_test, write_error_report
from local.scoring.results import error_report_folder, print_results
from tests.local.error_report.small_sets import errors_of, random_errors, scores_of, truth_of
from tests.published_task import DEVTEST

MINI = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"
CONFIG = load_config(MINI)
ODD_NAMES = ("x/日本 1", "x_日本 1", "ä#%20?.5", "<b>&\"q'", "e" * 251, "\udcff", "plain")
PICTURES = {"classes.png", "confusions.png", "boundaries.png", "worst_clips.png"}


def audio_of(folder: Path, clip_ids) -> dict[str, Path]:
    """A second of noise per clip, in files numbered from 0."""
    files = {}
    for number, clip_id in enumerate(clip_ids):
        files[clip_id] = folder / f"{number}.wav"
        noise = np.random.default_rng(number).normal(0, 0.1, 16000)
        sf.write(files[clip_id], noise, 16000, subtype="PCM_16")
    return files


class Links(HTMLParser):
    """Collects every address in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v for name, v in attrs if name in ("href", "src", "srcset") and v]


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are empty files, as drawing takes most of the time."""
    monkeypatch.setattr(write, "save_figure", lambda _, path: path.write_bytes(b"PNG"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A report of clips with odd names, of which one has no audio: (run folder, errors)."""
    folder = tmp_path_factory.mktemp("odd")
    errors = random_errors(3, ODD_NAMES)
    files = audio_of(folder, ODD_NAMES)
    del files["plain"]
    with pytest.warns(UserWarning, match=r"error_report: 1 clip has no page .* plain \(its audio"):
        write_error_report(folder, errors, files, CONFIG, checkpoint="é.ckpt")
    return folder, errors


def test_all_files_are_there_and_every_link_leads_to_one(odd):
    folder, errors = odd
    report = folder / "error_report"
    worst = [errors.clip_ids[clip] for clip in errors.worst_clips().tolist()]
    found = files_below(report)
    pages = {name for name in found if name.startswith("clips/")}
    assert found - pages == {"index.html", "errors.json", "events.tsv", *PICTURES}
    assert len(pages) == len(worst) - 1 > 2
    text = (report / "index.html").read_text(encoding="utf-8")
    addresses = Links(text).addresses
    linked = {
        os.fsdecode(unquote_to_bytes(address))
        for address in addresses
        if not address.startswith("data:")
    }
    assert linked == pages | {"errors.json", "events.tsv"}
    listed = json.loads((report / "errors.json").read_text())["worst_clips"]
    assert {one["page"] for one in listed} == pages | {None}
    assert all(os.stat(report / name).st_size > 1000 for name in PICTURES)


def test_the_pages_need_no_network_and_names_are_text(odd):
    folder, _ = odd
    text = (folder / "error_report" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:https?:)?//[a-z]", re.sub(r"base64,[^']*", "", text))
    assert text.count("data:image/png;base64,") == len(PICTURES)
    assert "<b>&" not in text and "<b>&\"q'" in unescape(text)
    assert "<script" not in text and "default-src 'none'" in text
    assert "é.ckpt" in text


def test_a_report_replaces_an_earlier_one_as_a_whole(tmp_path, undrawn):
    files = audio_of(tmp_path, "ab")
    first = errors_of("ab", [("a", "Dog", 1, 3)], [])
    write_error_report(tmp_path, first, files, CONFIG, checkpoint="1.ckpt")
    report = error_report_folder(tmp_path, "student")
    (report / "clips" / "stale.html").write_text("")
    assert (report / "clips" / "a.html").is_file()
    second = errors_of("ab", [("b", "Dog", 1, 3)], [])
    pictures = write_error_report(tmp_path, second, files, CONFIG, checkpoint="2.ckpt")
    assert [path.name for path in (report / "clips").iterdir()] == ["b.html"]
    assert {path.name for path in pictures.values()} == PICTURES
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_nothing_is_wrong(tmp_path, undrawn):
    """Times on the borders of frames; no clip to show, and no picture of one."""
    event = ("a", "Dog", 0.64, 1.28)
    errors = errors_of("ab", [event], [event])
    pictures = write_error_report(tmp_path, errors, {}, CONFIG, checkpoint="x.ckpt")
    assert "worst_clips" not in pictures and set(pictures) == {
        "classes",
        "confusions",
        "boundaries",
    }
    text = (tmp_path / "error_report" / "index.html").read_text()
    assert "No clip has an error." in text and "No class was confused" in text
    assert "1 was hit and 0 missed" in text


def test_the_report_of_a_test_says_what_was_left_out(tmp_path, capsys, undrawn):
    scores = scores_of("ab", [("a", "Dog", 1, 3), ("b", "Cat", 1, 3)])
    truth = truth_of("abc", [("a", "Dog", 1, 3)], left_out=("x", "y"))
    files = audio_of(tmp_path, "ab")
    found = report_test(tmp_path, scores, truth, files, CONFIG, checkpoint="x.ckpt")
    assert set(found) == {"classes", "confusions", "boundaries", "worst_clips"}
    text = (tmp_path / "error_report" / "index.html").read_text()
    assert "2 listed clips without events were left out of the test" in text
    assert "1 listed clip without scores" in text
    assert "Classes without a true event, whose detections are all false: Alarm_bell" in text
    content = {"metrics": {"test/student/m": 0.5}, "clips": {"devtest": 2}, "not_scored": []}
    content |= {"unscored_clips": {}, "missing": {}, "versions": {"sed_scores_eval": "0.0.4"}}
    (tmp_path / "results.json").write_text(json.dumps(content))
    print_results(tmp_path)
    last = capsys.readouterr().out.splitlines()[-1]
    page = tmp_path / "error_report" / "index.html"
    assert last == f"what was missed, false and confused, and the worst clips: {page}"


def test_boxes_are_judged_and_shown_as_they_are(tmp_path, undrawn):
    """Confidences in the table, borders between frames, and all boxes on the page of a clip."""
    clip_ids = ("a", "b")
    boxes = Boxes(
        clip_ids,
        VOCABULARY,
        np.array([10.0, 10.0]),
        np.array([0, 0, 1]),
        np.array([VOCABULARY.index(label) for label in ("Dog", "Cat", "Dog")]),
        np.array([1.01, 5.0, 2.0]),
        np.array([3.03, 6.0, 4.0]),
        np.array([0.75, 0.25, 0.625]),
    )
    truth = truth_of(clip_ids, [("a", "Dog", 1, 3), ("b", "Cat", 2, 4)])
    errors = find_errors(boxes, truth, DEVTEST.known, 0.5, role="student")
    config = load_config(MINI, ["decoder.kind=boxes"])
    files = audio_of(tmp_path, clip_ids)
    write_error_report(tmp_path, errors, files, config, checkpoint="x.ckpt")
    report = tmp_path / "error_report"
    head, *lines = (report / "events.tsv").read_text().splitlines()
    rows = [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]
    assert [(row["verdict"], row["highest_score"], row["onset_error"]) for row in rows] == [
        ("hit", "0.7500", "0.010"),
        ("miss", "0.0000", ""),
        ("false alarm", "0.6250", ""),
    ]
    assert "decoder: boxes" in (report / "index.html").read_text()
    (data,) = re.findall(r'id="data">(.*?)</script>', (report / "clips" / "a.html").read_text())
    boxes_shown = [row[1:] for row in json.loads(data)["boxes"]]
    assert boxes_shown == [[1.01, 3.03, 0.75], [5.0, 6.0, 0.25]]


@pytest.mark.parametrize("error", [InputError("the clip ä"), OSError(28, "full"), KeyError("x")])
def test_a_test_never_fails_for_its_report(tmp_path, monkeypatch, error):
    """Then there is none, also no earlier one, and a warning says why."""

    def fail(*_: object) -> None:
        raise error

    report = tmp_path / "error_report"
    for folder in (report, tmp_path / "error_report_teacher"):
        folder.mkdir()
        (folder / "index.html").write_text("earlier")
    monkeypatch.setattr(write, "event_verdicts", fail)
    inputs = scores_of("a", []), truth_of("a", [("a", "Dog", 1, 3)])
    with pytest.warns(UserWarning, match=r"error_report: no error report is written: .*(ä|full|x)"):
        assert report_test(tmp_path, *inputs, {}, CONFIG, checkpoint="x.ckpt") == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", [False, True])
def test_what_the_user_put_in_its_place_stays(tmp_path, link):
    place, kept = tmp_path / "run" / "error_report", tmp_path / "kept"
    place.parent.mkdir()
    kept.mkdir()
    (kept / "notes.txt").write_text("of the user")
    if link:
        place.symlink_to(kept, target_is_directory=True)
    else:
        place.write_text("of the user")
    inputs = scores_of("a", []), truth_of("a", [("a", "Dog", 1, 3)])
    with pytest.warns(UserWarning, match="error_report is not a folder of its own; move it away"):
        report_test(place.parent, *inputs, {}, CONFIG, checkpoint="x.ckpt")
    assert list(place.parent.iterdir()) == [place] and place.is_symlink() == link
    assert (kept / "notes.txt").read_text() == "of the user"


def test_what_the_user_put_into_a_report_stays(tmp_path, undrawn):
    """Notes beside the pages of both networks: neither report is written over them."""
    errors = errors_of("ab", [("a", "Dog", 1, 3)], [])
    notes = []
    for role in ("student", "teacher"):
        own = replace(errors, role=role)
        write_error_report(tmp_path, own, {}, CONFIG, checkpoint="1.ckpt")
        notes.append(error_report_folder(tmp_path, role) / "nötes" / "a.txt")
        notes[-1].parent.mkdir()
        notes[-1].write_text("of the user")
        with pytest.raises(InputError, match=r"contains what no report does \(nötes/a\.txt\)"):
            write_error_report(tmp_path, own, {}, CONFIG, checkpoint="2.ckpt")
    inputs = scores_of("a", []), truth_of("a", [("a", "Dog", 1, 3)])
    with pytest.warns(UserWarning, match="contains what no report does"):
        report_test(tmp_path, *inputs, {}, CONFIG, checkpoint="2.ckpt")
    # No page of an earlier test is left to be taken for this one's.
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == notes


@pytest.mark.parametrize("content", [b"", b"no audio at all" * 99])
def test_a_clip_that_cannot_be_read_has_no_page(tmp_path, content, undrawn):
    files = audio_of(tmp_path, "ab")
    files["a"].write_bytes(content)
    errors = errors_of("ab", [("a", "Dog", 1, 3), ("b", "Dog", 1, 2)], [])
    with pytest.warns(UserWarning, match=r"1 clip has no page in the error report: a \(.*0\.wav"):
        write_error_report(tmp_path, errors, files, CONFIG, checkpoint="x.ckpt")
    assert files_below(tmp_path / "error_report" / "clips") == {"b.html"}
