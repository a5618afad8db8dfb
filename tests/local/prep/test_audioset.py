"""Cuts of YouTube videos, with stand-ins for yt-dlp and ffmpeg that fail as the real ones do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import soundfile as sf

from desed_task.errors import InputError
from local.config import load_config
from local.prep.audioset import ClipSource, clip_sources, fetch_clips, plan_clips
from local.prep.layout import Places
from local.prep.youtube import Cut, Policy, cut_of, find_tools

ROOT = Path(__file__).resolve().parents[3]
QUICK = Policy(first_wait_s=0.0, timeout_s=5.0)

YT_DLP = """
    import os, pathlib, sys, time
    video = sys.argv[-1].rpartition("=")[2]
    log = pathlib.Path(os.environ["STAND_IN_LOG"])
    before = log.read_text().split() if log.exists() else []
    with log.open("a") as file:
        file.write(video + "\\n")
    kind = video.split("_")[0]
    if kind == "gone":
        sys.exit(f"ERROR: [youtube] {video}: Private video. Sign in if you may")
    if kind == "flaky" and video not in before:
        sys.exit(f"ERROR: [youtube] {video}: Unable to download webpage: timed out")
    if kind == "down":
        sys.exit("ERROR: unable to download video data: connection reset")
    if kind == "limited":
        sys.exit(f"ERROR: [youtube] {video}: Video unavailable. Try again later")
    if kind == "bot":
        sys.exit(f"ERROR: [youtube] {video}: Sign in to confirm you are not a bot")
    if kind == "hang":
        time.sleep(60)
    if kind != "empty":
        address = log.with_name(video + ".webm")
        address.write_text(kind)
        print(address)
"""
FFMPEG = """
    import pathlib, sys, wave
    kind = pathlib.Path(sys.argv[sys.argv.index("-i") + 1]).read_text()
    seconds = float(sys.argv[sys.argv.index("-t") + 1])
    assert sys.argv[sys.argv.index("-ss") + 1] == "30.000"
    rate = int(sys.argv[sys.argv.index("-ar") + 1])
    if kind == "badaudio":
        sys.exit("source.webm: Invalid data found when processing input")
    with wave.open(sys.argv[-1], "wb") as wav:
        wav.setnchannels(1), wav.setsampwidth(2), wav.setframerate(rate)
        wav.writeframes(b"\\1\\0" * round(rate * (0.1 if kind == "short" else seconds)))
"""


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Both programs on PATH, and before it nothing else; the path of what yt-dlp was asked for."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, source in (("yt-dlp", YT_DLP), ("ffmpeg", FFMPEG)):
        program = programs / name
        program.write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")
        program.chmod(0o755)
    log = tmp_path / "asked"
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("STAND_IN_LOG", str(log))
    # Programs beside this Python would be found first.
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    return log


def named(*kinds):
    """A clip's name for each kind of video; the video's id tells the stand-in what to do."""
    return [f"Y{kind.ljust(11, '_')}_30.000_40.000" for kind in kinds]


@pytest.fixture
def source(tmp_path):
    def make(clip_ids, name="weak"):
        table = tmp_path / f"{name}.tsv"
        rows = "".join(f"{clip_id}.wav\tDog\n" for clip_id in clip_ids)
        table.write_text(f"filename\tevent_labels\n{rows}")
        return ClipSource("real", name, table, tmp_path / "clips")

    return make


def fetch(source, tmp_path, **options):
    options = {"policy": QUICK, "progress": False, **options}
    return fetch_clips(source, tmp_path / "missing_files", **options)


def missing_table(tmp_path, name="weak"):
    text = (tmp_path / "missing_files" / f"missing_files_{name}.tsv").read_text()
    head, *rows = text.splitlines()
    assert head == "filename\treason"
    return dict(row.split("\t") for row in rows)


def test_a_name_says_video_and_seconds():
    assert cut_of("Y-aB_9xyz012_30.000_40.000") == Cut("-aB_9xyz012", 30.0, 40.0)
    for other in ("Yshort_30.000_40.000", "a001", "Y-aB_9xyz012_40.000_30.000", "12.wav"):
        assert cut_of(other) is None


def test_what_is_there_stays_what_is_gone_is_listed_and_the_rest_is_fetched(
    stand_ins, source, tmp_path
):
    kinds = ("good", "gone", "flaky", "down", "badaudio", "short", "empty", "limited", "there")
    clip_ids = named(*kinds)
    clips = source([*clip_ids, "not_a_video"])
    clips.folder.mkdir()
    old = clips.folder / f"{clip_ids[-1]}.wav"
    old.write_bytes(b"there before")
    (clips.folder / ".fetch-left").mkdir()
    done = fetch(clips, tmp_path)
    assert (done.done, done.there) == (2, 1)
    assert old.read_bytes() == b"there before"
    there = {path.stem for path in clips.folder.iterdir()}
    assert there == {clip_ids[0], clip_ids[2], clip_ids[-1]}  # no leftover
    info = sf.info(clips.folder / f"{clip_ids[0]}.wav")
    assert (info.samplerate, info.duration, info.subtype) == (44100, 10.0, "PCM_16")
    reasons = missing_table(tmp_path)
    assert reasons == {f"{clip_id}.wav": reason for clip_id, reason in done.missing.items()}
    said = {
        kind: reasons.get(f"{clip_id}.wav") for kind, clip_id in zip(kinds, clip_ids, strict=True)
    }
    assert said["gone"] == "yt-dlp: Private video. Sign in if you may"
    assert said["down"] == "yt-dlp: unable to download video data: connection reset"
    assert said["badaudio"].startswith("ffmpeg: source.webm: Invalid data")
    assert said["short"] == "the cut has 0.10 s instead of 10.00 s"
    assert said["empty"] == "yt-dlp gave no address"
    assert "no video is known" in reasons["not_a_video.wav"]
    asked = stand_ins.read_text().split()
    # Failures that may pass are tried again, a video that is gone is not.
    assert [asked.count(name[1:12]) for name in clip_ids] == [1, 1, 2, 3, 3, 1, 3, 3, 0]


def test_a_second_run_tries_only_what_is_missing(stand_ins, source, tmp_path):
    clips = source(named("good", "gone", "fine"))
    assert fetch(clips, tmp_path).done == 2
    stand_ins.unlink()
    again = fetch(clips, tmp_path)
    assert (again.done, again.there, len(again.missing)) == (0, 2, 1)
    assert stand_ins.read_text().split() == ["gone_______"]
    (clips.folder / f"{named('gone')[0]}.wav").touch()
    assert fetch(clips, tmp_path) == ("weak", 0, 3, {})
    assert missing_table(tmp_path) == {}


def test_a_plan_counts_what_is_absent(tmp_path):
    places = Places(load_config(ROOT / "confs" / "pretrained.yaml").data, tmp_path, tmp_path)
    weak = next(clip_sources(places, ("real",)))
    weak.table.parent.mkdir(parents=True)
    weak.table.write_text("filename\tevent_labels\na.wav\tDog\nb.wav\tDog\nc.wav\tCat\n")
    weak.folder.mkdir(parents=True)
    (weak.folder / "b.wav").touch()
    first, *others = plan_clips(places, ("real", "synth"))
    assert first == "clips of weak: 2 of 3 to fetch, 0.0 GB"
    assert len(others) == 2 and all("not known before" in line for line in others)


def test_a_program_without_end_is_ended(stand_ins, source, tmp_path):
    policy = Policy(tries=1, timeout_s=1.0)
    done = fetch(source(named("hang", "good")), tmp_path, policy=policy)
    assert done.done == 1
    assert list(done.missing.values()) == ["yt-dlp had no end after 1 s"]


def test_a_machine_that_is_refused_does_not_go_on_asking(stand_ins, source, tmp_path):
    clip_ids = [f"Ybot_{number:07d}_0.000_10.000" for number in range(40)]
    with pytest.raises(InputError, match=r"weak: YouTube refused 10 clips in a row.*--cookies"):
        fetch(source(clip_ids), tmp_path, jobs=1, policy=Policy(tries=1))
    assert 10 <= len(stand_ins.read_text().split()) < 40
    reasons = missing_table(tmp_path)
    assert len(reasons) == 40 and "not tried yet" in reasons.values()


def test_cookies_go_along_and_must_be_there(stand_ins, source, tmp_path):
    clips = source(named("good"))
    with pytest.raises(InputError, match=r"--cookies .*none\.txt: no such file"):
        fetch(clips, tmp_path, cookies=tmp_path / "none.txt")
    assert not clips.folder.exists()


def test_missing_programs_are_named_with_a_remedy(stand_ins, source, tmp_path, monkeypatch):
    (tmp_path / "bin" / "ffmpeg").unlink()
    with pytest.raises(InputError, match=r"need ffmpeg \(apt install ffmpeg"):
        find_tools()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(InputError, match=r"yt-dlp \(pip install --upgrade yt-dlp\) and ffmpeg"):
        fetch(source(named("good")), tmp_path)
    # Where nothing is missing, nothing is needed.
    clips = source(named("good"))
    (clips.folder / f"{named('good')[0]}.wav").touch()
    assert fetch(clips, tmp_path).there == 1


def test_ctrl_c_keeps_what_is_done_and_ends_the_programs(stand_ins, source, tmp_path):
    clips = source(named("good", "hang", "hang2", "fine"))
    code = textwrap.dedent(
        f"""
        from pathlib import Path
        from local.prep.audioset import ClipSource, fetch_clips
        root = Path({str(tmp_path)!r})
        clips = ClipSource("real", "weak", root / "weak.tsv", root / "clips")
        fetch_clips(clips, root / "missing_files", jobs=2, progress=False)
        """
    )
    # The Python that runs the tests, as the fixture has put another name in its place.
    python = (tmp_path / "bin" / "yt-dlp").read_text().splitlines()[0].removeprefix("#!")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([python, "-c", code], env=env, stderr=subprocess.PIPE, text=True)
    for _ in range(200):
        asked = stand_ins.read_text().split() if stand_ins.exists() else []
        if len(asked) >= 3 and (clips.folder / f"{named('good')[0]}.wav").exists():
            break
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in run.communicate(timeout=30)[1]
    reasons = missing_table(tmp_path)
    assert f"{named('good')[0]}.wav" not in reasons
    assert set(reasons.values()) == {"not tried yet"}
    assert not list(clips.folder.glob(".fetch-*"))


def test_the_sets_of_each_part(tmp_path):
    places = Places(load_config(ROOT / "confs" / "pretrained.yaml").data, tmp_path, tmp_path)
    sources = list(clip_sources(places, ("real", "strong", "synth", "maestro")))
    metadata = tmp_path / "dcase" / "dataset" / "metadata"
    audio = tmp_path / "dcase" / "dataset" / "audio"
    assert [(s.name, s.table.relative_to(metadata)) for s in sources] == [
        ("weak", Path("train/weak.tsv")),
        ("unlabel_in_domain", Path("train/unlabel_in_domain.tsv")),
        ("validation", Path("validation/validation.tsv")),
        ("strong", Path("train/audioset_strong.tsv")),
    ]
    assert [s.folder.relative_to(audio) for s in sources] == [
        Path("train/weak"),
        Path("train/unlabel_in_domain"),
        Path("validation/validation"),
        Path("train/strong_label_real"),
    ]
    assert [s.name for s in clip_sources(places, ("strong",))] == ["strong"]
