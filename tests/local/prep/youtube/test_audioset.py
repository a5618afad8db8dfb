"""AudioSet cuts, with programs on PATH that stand in for yt-dlp and ffmpeg (fake_programs.py)."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from desed_task.errors import InputError
from desed_task.parallel import ProgressLines
from local.config import load_config
from local.prep.layout import DATA_PARTS, FOLDERS, DataLayout
from local.prep.youtube import audioset
from local.prep.youtube.audioset import fetch_audioset, fetch_clips
from local.prep.youtube.client import YouTubeClient
from local.prep.youtube.clip_sets import AUDIOSET_CLIPS, absent_clips, listed_names, missing_table
from local.prep.youtube.plan import plan_audioset
from local.prep.youtube.rate_limit import RateLimits

ROOT = Path(__file__).parents[4]
FAKE_PROGRAMS = Path(__file__).with_name("fake_programs.py")
HURRIED = RateLimits(pause_s=0, first_wait_s=0, limit_wait_s=0)

spec = importlib.util.spec_from_file_location("fake_programs", FAKE_PROGRAMS)
fake_programs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake_programs)


class Desk:
    """Where the stand-ins find their replies and leave what they were asked."""

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir()
        self.reply()

    def reply(self, yt_dlp=None, ffmpeg=None):
        """Replies by video, the last of which stays; from now on."""
        for record in self.folder.glob("*.???????????"):
            record.unlink()
        replies = {"yt-dlp": yt_dlp or {}, "ffmpeg": ffmpeg or {}}
        (self.folder / "replies.json").write_text(json.dumps(replies))

    def calls(self, program, video):
        record = self.folder / f"{program}.{video}"
        if not record.exists():
            return []
        return [json.loads(line) for line in record.read_text().splitlines()]

    def asked(self):
        """Video -> how often yt-dlp was asked for it."""
        return {
            record.name[7:]: len(record.read_text().splitlines())
            for record in self.folder.glob("yt-dlp.*")
        }


@pytest.fixture
def desk(tmp_path, monkeypatch):
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for program in ("yt-dlp", "ffmpeg"):
        path = bin_ / program
        path.write_text(f"#!{sys.executable} -IS\n{FAKE_PROGRAMS.read_text()}")
        path.chmod(0o755)
    desk = Desk(tmp_path / "desk")
    monkeypatch.setenv("FAKE_PROGRAMS", str(desk.folder))
    monkeypatch.setenv("PATH", str(bin_))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return desk


def name(video, start_s=30.0, length_s=10.0):
    return f"Y{video:_<11}_{start_s:.3f}_{start_s + length_s:.3f}.wav"


def video(stem):
    return f"{stem:_<11}"


@pytest.fixture
def fetch(tmp_path):
    def run(names, *, jobs=4, limits=HURRIED, cookies=None, **options):
        youtube = YouTubeClient(limits=limits, cookies=cookies, say=options.pop("say", print))
        folder, missing = tmp_path / "weak", tmp_path / "missing_files_weak.tsv"
        return fetch_clips(
            names, folder, missing, youtube=youtube, jobs=jobs, progress=False, **options
        )

    return run


def missing_in(tmp_path):
    with (tmp_path / "missing_files_weak.tsv").open() as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert header == ["filename", "reason"]
    return dict(rows)


def files(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def reasons(step):
    return [reason for _, reason in step.failed]


def test_clips_have_the_seconds_that_their_names_say(desk, fetch, tmp_path):
    names = [name("one"), name("-wo", 0.0), name("three", 12.345, 4.5), name("one", 40.0)]
    step = fetch(names)
    assert (step.title, step.done, step.there, step.failed) == ("clips", 4, 0, ())
    for clip, stem, start_s, length_s in zip(
        names, ["one", "-wo", "three", "one"], [30, 0, 12.345, 40], [10, 10, 4.5, 10], strict=True
    ):
        samples, rate = sf.read(tmp_path / "weak" / clip, dtype="int16")
        assert (rate, len(samples)) == (44100, round(length_s * 44100))
        assert set(np.unique(samples)) == {fake_programs.level(video(stem), start_s)}
    # Neither half-written files nor a lock or table of clips that nobody lacks.
    assert files(tmp_path / "weak") == set(names)
    assert missing_in(tmp_path) == {}


def test_programs_are_asked_for_the_section_only(desk, fetch, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    fetch([name("-a", 30.0)])
    asked = desk.calls("yt-dlp", video("-a"))[0]["arguments"]
    assert asked[-2:] == ["--", "https://www.youtube.com/watch?v=-a_________"]
    assert "--simulate" in asked and "--cookies" not in asked
    (cut,) = desk.calls("ffmpeg", video("-a"))
    arguments = cut["arguments"]
    # Before -i they hold for what is fetched, behind it for what is written.
    before, behind = arguments[: arguments.index("-i")], arguments[arguments.index("-i") :]
    assert before[before.index("-ss") + 1] == "30.000"
    assert before[before.index("-headers") + 1] == "User-Agent: stand-in\r\n"
    assert behind[behind.index("-t") + 1] == "10.000"
    assert behind[behind.index("-ar") + 1] == "44100"
    assert cut["http_proxy"] == "http://proxy:3128"


FAULTS = {
    "gone": (
        {"error": "Private video. Sign in if you've been granted access to this video"},
        "gone: Private video. Sign in if you've been granted access to this video",
        1,
    ),
    "age": (
        {"error": "Sign in to confirm your age. Use --cookies; see https://github.com/x"},
        "sign-in: Sign in to confirm your age. Use --cookies; see ...",
        1,
    ),
    "broken": (
        {"error": "Requested format is not available"},
        "error: Requested format is not available",
        1,
    ),
    "garbage": ("garbage", "error: yt-dlp reports no audio", 1),
    "net": (
        {"error": "Unable to download webpage: HTTP Error 503: Service Unavailable"},
        "failed: Unable to download webpage: HTTP Error 503: Service Unavailable",
        3,
    ),
    "ends": ({"duration": 30}, "gone: the video lasts 30 s only", 1),
}
CUT_FAULTS = {
    "crash": ("fail", "failed: ffmpeg: ... Server returned 5XX"),
    "short": (9.9, "failed: ffmpeg wrote 9.90 s at 44100 Hz of 10 s"),
    "long": (10.2, "failed: ffmpeg wrote 10.20 s at 44100 Hz of 10 s"),
    "empty": (0.0, "failed: ffmpeg wrote no audio"),
}


def test_what_cannot_be_had_is_listed_and_the_rest_goes_on(desk, fetch, tmp_path):
    desk.reply(
        {video(stem): [fault[0]] for stem, fault in FAULTS.items()},
        {video(stem): [fault[0]] for stem, fault in CUT_FAULTS.items()},
    )
    strange = ["../Yx.wav", "dev_0001.wav", "Yshort_0.000_10.000.wav", name("backwards", 9, -4)]
    faulty = [name(stem) for stem in (*FAULTS, *CUT_FAULTS)]
    step = fetch([name("one"), *faulty, *strange, name("two")])
    told = missing_in(tmp_path)
    assert list(told) == [*faulty, *strange]
    assert files(tmp_path / "weak") == {name("one"), name("two")}
    for stem, (_, reason, n_calls) in FAULTS.items():
        assert told[name(stem)].startswith(reason)
        assert len(desk.calls("yt-dlp", video(stem))) == n_calls
    for stem, (_, reason) in CUT_FAULTS.items():
        assert told[name(stem)] == reason
        assert len(desk.calls("ffmpeg", video(stem))) == 3
    assert {told[clip] for clip in strange} == {"not a YouTube name"}
    assert "secret" not in (tmp_path / "missing_files_weak.tsv").read_text()
    # What nobody can change is no failure of the run.
    assert (step.done, step.there, step.title) == (2, 0, "clips (7 gone)")
    failed = {"broken", "garbage", "net", *CUT_FAULTS}
    assert {path.name for path, _ in step.failed} == {name(stem) for stem in failed}


def test_what_passes_is_tried_again_at_once(desk, fetch, tmp_path):
    desk.reply(
        {
            video("net"): [{"error": "[Errno -3] Temporary failure in name resolution"}, "ok"],
        },
        {video("crash"): ["fail", "ok"], video("cut"): [3.0, "ok"]},
    )
    names = [name(stem) for stem in ("net", "crash", "cut")]
    step = fetch(names)
    assert (step.done, step.failed) == (3, ())
    assert desk.asked() == {video("net"): 2, video("crash"): 2, video("cut"): 2}
    assert missing_in(tmp_path) == {}
    assert {sf.info(tmp_path / "weak" / clip).frames for clip in names} == {441000}


def test_what_hangs_is_tried_again(desk, fetch):
    desk.reply({video("hang"): ["hang", "ok"]}, {video("hang"): ["hang", "ok"]})
    limits = RateLimits(pause_s=0, first_wait_s=0, timeout_s=3, tries=5)
    step = fetch([name("hang")], limits=limits)
    assert (step.done, step.failed) == (1, ())
    assert desk.asked()[video("hang")] >= 3


def test_what_hangs_is_ended_with_all_that_it_started(desk, fetch, tmp_path):
    desk.reply({video("hang"): ["hang"]})
    fetch([name("hang")], limits=RateLimits(pause_s=0, tries=1, timeout_s=4))
    assert missing_in(tmp_path) == {name("hang"): "failed: yt-dlp took more than 4 s"}
    wait_until_ended(int((desk.folder / "hanging").read_text()))


def wait_until_ended(pid):
    """Killed is not yet gone: somebody has to collect it, and in a container nobody may."""
    status = Path(f"/proc/{pid}/status")
    deadline = time.monotonic() + 30
    while status.exists() and "State:\tZ" not in status.read_text():
        assert time.monotonic() < deadline, f"process {pid} is still running"
        time.sleep(0.02)


def test_a_second_run_tries_only_what_may_be_there_now(desk, fetch, tmp_path):
    gone, age, net = (name(stem) for stem in ("gone", "age", "net"))
    replies = {video(stem): [FAULTS[stem][0]] for stem in ("gone", "age", "net")}
    desk.reply(replies)
    names = [name("one"), gone, age, net, "odd.wav"]
    fetch(names)
    before = missing_in(tmp_path)

    desk.reply()  # All is well now.
    step = fetch(names)
    assert (step.done, step.there, step.title) == (1, 1, "clips (3 gone)")
    assert desk.asked() == {video("net"): 1}
    assert missing_in(tmp_path) == {clip: before[clip] for clip in (gone, age, "odd.wav")}

    desk.reply()
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n")
    fetch(names, cookies=cookies)
    assert desk.asked() == {video("age"): 1}
    assert missing_in(tmp_path) == {gone: before[gone], "odd.wav": "not a YouTube name"}

    desk.reply()
    step = fetch(names, retry_gone=True)
    assert desk.asked() == {video("gone"): 1}
    assert (step.done, step.there, step.title) == (1, 3, "clips (1 gone)")

    desk.reply()
    step = fetch(names[:-1])
    assert (desk.asked(), missing_in(tmp_path)) == ({}, {})
    assert (step.done, step.there) == (0, 4)


def test_clips_in_subfolders_are_there(tmp_path):
    folders = (tmp_path / "weak", tmp_path / "weak_16k")
    for path in (folders[0] / "x" / name("a"), folders[1] / "y" / name("b").replace("wav", "WAV")):
        path.parent.mkdir(parents=True)
        sf.write(path, np.zeros(100), 16000, format="WAV")
    for place in "xy":
        (folders[0] / place).mkdir(exist_ok=True)
        (folders[0] / place / name("d")).write_bytes(b"damaged")
    names = [name("a"), name("b"), name("c"), "../x.wav"]
    assert absent_clips(names, folders, "", progress=False) == [name("c"), "../x.wav"]
    # Not told apart: fetched, as it would be if it were nowhere.
    assert absent_clips([name("d")], folders, "", progress=False) == [name("d")]


def test_damaged_files_are_fetched_again_and_resampled_ones_are_there(desk, fetch, tmp_path):
    names = [name("cut"), name("resampled"), name("empty"), "dev.wav"]
    fetch(names[:1])
    whole = (tmp_path / "weak" / names[0]).read_bytes()
    (tmp_path / "weak" / names[0]).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "weak" / names[2]).touch()
    for clip in (names[1], names[3]):
        (tmp_path / "weak_16k").mkdir(exist_ok=True)
        sf.write(tmp_path / "weak_16k" / clip, np.zeros(160), 16000)
    step = fetch(names, resampled=tmp_path / "weak_16k")
    assert (step.done, step.there, step.failed) == (2, 2, ())
    assert (tmp_path / "weak" / names[0]).read_bytes() == whole
    assert missing_in(tmp_path) == {}


@pytest.mark.parametrize(
    ("video_s", "ends_s", "fits"),
    [(39.5, 9.6, True), (39.5, 8.6, True), (39.5, 8.4, False), (40, 9.2, True), (42, 9.2, False)],
)
def test_a_clip_may_end_with_its_video(desk, fetch, tmp_path, video_s, ends_s, fits):
    """Lengths of videos are told in whole seconds; sound may end a second before."""
    desk.reply({video("end"): [{"duration": video_s}]}, {video("end"): [ends_s]})
    step = fetch([name("end")])
    assert step.done == fits
    assert bool(files(tmp_path / "weak")) == fits


def test_an_address_is_not_used_before_its_time(desk, fetch):
    ready_at = time.time() + 1.5
    desk.reply({video("ad"): [{"available_at": ready_at}]})
    assert fetch([name("ad")]).done == 1
    assert desk.calls("ffmpeg", video("ad"))[0]["time"] >= ready_at


LIMIT = {"error": "Video unavailable. This content isn't available, try again later. The current"}
BOT = {"error": "Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies"}


@pytest.mark.parametrize("words", [LIMIT, BOT])
def test_a_limit_is_waited_out(desk, fetch, tmp_path, words):
    said = []
    desk.reply({video("b"): [words, "ok"]})
    step = fetch([name("a"), name("b"), name("c")], jobs=1, say=said.append)
    assert (step.done, step.failed) == (3, ())
    assert len(said) == 1 and "YouTube asks to slow down" in said[0]


def test_a_clip_that_is_refused_alone_does_not_end_the_run(desk, fetch, tmp_path):
    desk.reply({video("b"): [LIMIT]})
    step = fetch([name("a"), name("b"), name("c")], jobs=1, say=lambda message: None)
    assert step.done == 2
    assert desk.asked()[video("b")] == 3
    assert missing_in(tmp_path)[name("b")].startswith("limit: Video unavailable.")
    # It is not gone: the next run tries it.
    desk.reply()
    assert fetch([name("b")]).done == 1


def test_a_limit_without_end_ends_the_run(desk, fetch, tmp_path):
    stems = [f"c{i}" for i in range(20)]
    desk.reply({video(stem): [LIMIT] for stem in stems})
    names = [name("a"), *map(name, stems)]
    step = fetch(names, jobs=1, say=lambda message: None)
    assert step.done == 1
    assert reasons(step)[-1].startswith("clips: 18 clips are left; YouTube refuses requests (")
    assert reasons(step)[-1].endswith("wait an hour or give --cookies, then run again")
    # Six waits, three tries a clip: the third clip's first request is the one too many.
    assert desk.asked() == {video("a"): 1, video("c0"): 3, video("c1"): 3, video("c2"): 1}
    told = missing_in(tmp_path)
    assert [told[name(stem)].split(":")[0] for stem in stems[:3]] == ["limit"] * 2 + [
        "not fetched yet"
    ]


def test_a_limit_before_anything_was_answered_ends_the_run(desk, fetch, tmp_path):
    names = [name(f"c{i}") for i in range(10)]
    desk.reply({video(f"c{i}"): [BOT] for i in range(10)})
    step = fetch(names, jobs=1)
    assert desk.asked() == {video("c0"): 1}
    assert set(missing_in(tmp_path).values()) == {"not fetched yet"}
    assert len(step.failed) == 1 and "10 clips are left" in reasons(step)[0]


@pytest.mark.parametrize(
    ("reply", "limits", "words"),
    [
        (
            {"error": "Failed to resolve 'www.youtube.com'"},
            {"most_failed": 3},
            "check the network",
        ),
        ({"error": "Video unavailable"}, {"most_gone": 3}, "the first 3 requested clips are all g"),
    ],
)
def test_when_all_clips_fail_the_run_ends(desk, fetch, tmp_path, reply, limits, words):
    desk.reply({video(f"c{i}"): [reply] for i in range(30)})
    limits = RateLimits(pause_s=0, first_wait_s=0, tries=1, **limits)
    step = fetch([name(f"c{i}") for i in range(30)], jobs=1, limits=limits)
    assert len(desk.asked()) == 3
    assert words in reasons(step)[-1]
    assert list(missing_in(tmp_path).values()).count("not fetched yet") == 27


def test_failures_here_and_there_do_not_end_the_run(desk, fetch):
    stems = [f"c{i}" for i in range(8)]
    desk.reply({video(stem): [{"error": "odd"}] for stem in stems[1::2]})
    limits = RateLimits(pause_s=0, most_failed=2, most_gone=2)
    step = fetch([name(stem) for stem in stems], jobs=1, limits=limits)
    assert (step.done, len(step.failed)) == (4, 4)


def test_a_full_disk_ends_the_run(desk, fetch, tmp_path):
    desk.reply(ffmpeg={video("b"): ["full"]})
    step = fetch([name("a"), name("b"), name("c")], jobs=1)
    assert step.done == 1
    assert files(tmp_path / "weak") == {name("a")}
    assert len(step.failed) == 1
    assert "No space left on device" in reasons(step)[0] and "free some space" in reasons(step)[0]


def test_absent_programs_are_named_when_they_are_needed(desk, fetch, tmp_path, monkeypatch):
    fetch([name("a")])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    assert fetch([name("a"), "odd.wav"]).there == 1
    with pytest.raises(InputError) as raised:
        fetch([name("a"), name("b")])
    assert "yt-dlp (pip install" in str(raised.value)
    assert "ffmpeg (apt install" in str(raised.value)
    assert missing_in(tmp_path) == {name("b"): "not fetched yet"}


def test_yt_dlp_may_be_a_module_only(desk, fetch, tmp_path, monkeypatch):
    package = tmp_path / "site" / "yt_dlp"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "bin" / "yt-dlp").unlink()
    (package / "__main__.py").write_text(FAKE_PROGRAMS.read_text())
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    assert fetch([name("a")]).done == 1
    assert desk.asked() == {video("a"): 1}


def test_where_all_is_there_nothing_is_written(desk, fetch, tmp_path):
    """Data that is shared may be read-only."""
    fetch([name("a")])
    (tmp_path / "missing_files_weak.tsv").unlink()
    before = files(tmp_path)
    assert fetch([name("a")]).there == 1
    assert files(tmp_path) == before


def test_each_call_has_cookies_of_its_own(desk, fetch, tmp_path):
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("jar")
    assert fetch([name("a"), name("b")], cookies=cookies).done == 2
    used = [line.split("\t") for line in (desk.folder / "cookies").read_text().splitlines()]
    assert [(mode, text) for _, mode, text in used] == [("600", "jar")] * 2
    assert len({path for path, _, _ in used} | {str(cookies)}) == 3
    assert not any(Path(path).exists() for path, _, _ in used)
    assert cookies.read_text() == "jar"


def test_absent_cookies_are_said(desk, fetch, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.txt: no such file"):
        fetch([name("a")], cookies=tmp_path / "nowhere.txt")
    assert desk.asked() == {}


FETCH = """
import sys
from pathlib import Path
from local.prep.youtube.audioset import fetch_clips
from local.prep.youtube.rate_limit import RateLimits
from local.prep.youtube.client import YouTubeClient
folder, missing, *names = sys.argv[1:]
client = YouTubeClient(limits=RateLimits(pause_s=0))
fetch_clips(names, Path(folder), Path(missing), youtube=client, jobs=2)
"""


@pytest.fixture
def run_until_it_hangs(desk, tmp_path):
    """Starts a fetch in which some are fetched, one is gone and the last two hang."""
    desk.reply(
        {video("gone"): [FAULTS["gone"][0]], video("hang"): ["hang"]},
        {video("slow"): ["hang"]},
    )
    names = [name(stem) for stem in ("a", "gone", "b", "hang", "slow", "later")]
    running = subprocess.Popen(
        [
            sys.executable,
            "-c",
            FETCH,
            tmp_path / "weak",
            tmp_path / "missing_files_weak.tsv",
            *names,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (desk.calls("ffmpeg", video("slow")) and desk.calls("yt-dlp", video("hang"))):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    while "gone: " not in (tmp_path / "missing_files_weak.tsv").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield running, names
    running.kill()
    running.wait()


def test_ctrl_c_keeps_what_is_done(run_until_it_hangs, desk, tmp_path):
    running, _ = run_until_it_hangs
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert "KeyboardInterrupt" in told
    assert files(tmp_path / "weak") == {name("a"), name("b")}
    reasons = missing_in(tmp_path)
    assert reasons.pop(name("gone")).startswith("gone: Private video")
    assert reasons == {name(stem): "not fetched yet" for stem in ("hang", "slow", "later")}
    wait_until_ended(int((desk.folder / "hanging").read_text()))


def test_ctrl_c_counts_what_has_just_come(desk, fetch, tmp_path, monkeypatch):
    names = [name("a"), name("b"), name("c")]

    class Bar(ProgressLines):
        stopped = False

        def update(self, n=1):
            """Ctrl-C comes with the first clip counted, when all of them are there."""
            deadline = time.monotonic() + 60
            while files(tmp_path / "weak") != set(names) and time.monotonic() < deadline:
                time.sleep(0.01)
            if not Bar.stopped:
                Bar.stopped = True
                raise KeyboardInterrupt

    monkeypatch.setattr(audioset, "_bar", lambda *_: Bar("", 3, unit="clip"))
    with pytest.raises(KeyboardInterrupt):
        fetch(names)
    assert files(tmp_path / "weak") == set(names)
    assert missing_in(tmp_path) == {}


def test_kill_loses_only_the_clips_at_work(run_until_it_hangs, desk, fetch, tmp_path):
    running, names = run_until_it_hangs
    running.kill()
    running.wait()
    child = int((desk.folder / "hanging").read_text())
    whole = {clip for clip in files(tmp_path / "weak") if not clip.startswith(".")}
    assert whole == {name("a"), name("b")}
    assert missing_in(tmp_path)[name("gone")].startswith("gone: Private video")
    desk.reply()
    step = fetch(names)
    assert (step.done, step.there, step.title) == (3, 2, "clips (1 gone)")
    assert video("gone") not in desk.asked()
    os.kill(child, signal.SIGKILL)


def test_two_runs_do_not_fetch_the_same_clips(desk, fetch, tmp_path):
    lock = tmp_path / ".missing_files_weak.lock"
    code = (
        f"import fcntl, sys; file = open({str(lock)!r}, 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match="another run is fetching these clips"):
            fetch([name("a")])
        other.stdin.close()
    assert desk.asked() == {}
    assert fetch([name("a")]).done == 1


@pytest.fixture(scope="module")
def data():
    return load_config(ROOT / "confs" / "pretrained.yaml").data


@pytest.fixture
def layout(tmp_path, data):
    """Tables of the four sets, with a clip of its own each and one that is in all."""
    layout = DataLayout(data, tmp_path / "base", tmp_path / "out")
    metadata = tmp_path / "base" / "dcase" / "dataset" / "metadata"
    for path, columns, cells in (
        ("validation/validation.tsv", "onset\toffset\tevent_label", "0.1\t1\tSpeech"),
        ("train/weak.tsv", "event_labels", "Speech,Dog"),
        ("train/audioset_strong.tsv", "onset\toffset\tevent_label", "\t\t"),
        ("train/unlabel_in_domain.tsv", "", ""),
    ):
        table = metadata / path
        table.parent.mkdir(parents=True, exist_ok=True)
        # A clip with several events has several rows.
        clips = (name(table.stem[:11]), name("all"), name("all"))
        rows = [
            f"{clip}\t{cells}".rstrip() if cells == "" else f"{clip}\t{cells}" for clip in clips
        ]
        table.write_text("\n".join([f"filename\t{columns}".rstrip(), *rows]) + "\n")
    return layout


def test_sets_are_folders_and_parts_of_the_recipe():
    known = {folder.key: folder.part for folder in FOLDERS}
    assert {
        clip_set.folder_key: clip_set.part for clip_set in AUDIOSET_CLIPS
    }.items() <= known.items()
    assert {clip_set.part for clip_set in AUDIOSET_CLIPS} == {"real", "strong"} < set(DATA_PARTS)


@pytest.mark.parametrize(
    ("set_name", "stem"),
    [
        ("validation", "validation"),
        ("weak", "weak"),
        ("strong", "audioset_strong"),
        ("unlabel_in_domain", "unlabel_in_domain"),
    ],
)
def test_tables_list_clips_once(layout, set_name, stem):
    assert listed_names(layout, set_name) == (name(stem[:11]), name("all"))


def test_every_set_goes_into_the_folder_of_the_config(desk, layout, tmp_path):
    steps = fetch_audioset(layout, ["strong", "real"], limits=HURRIED, progress=False)
    assert [(step.title, step.done, step.failed) for step in steps] == [
        (title, 2, ())
        for title in ("DESED validation", "weak", "strong real", "unlabelled in domain")
    ]
    audio = tmp_path / "base" / "dcase" / "dataset" / "audio"
    assert files(audio / "validation" / "validation") == {name("validation"), name("all")}
    assert files(audio / "train" / "weak") == {name("weak"), name("all")}
    assert files(audio / "train" / "strong_label_real") == {name("audioset_st"), name("all")}
    assert files(audio / "train" / "unlabel_in_domain") == {name("unlabel_in_"), name("all")}
    assert not (tmp_path / "out").exists()


def test_only_the_parts_wanted_are_fetched(desk, layout):
    steps = fetch_audioset(layout, ["strong", "maestro"], limits=HURRIED, progress=False)
    assert [step.title for step in steps] == ["strong real"]
    assert set(desk.asked()) == {"audioset_st", video("all")}


def test_a_set_without_its_table_does_not_hold_up_the_others(desk, layout):
    layout.found("weak_tsv").unlink()
    desk.reply({video("all"): [{"error": "Video unavailable"}]})
    steps = fetch_audioset(layout, ["real"], limits=HURRIED, progress=False)
    assert [(step.title, step.done) for step in steps] == [
        ("DESED validation (1 gone)", 1),
        ("weak", 0),
        ("unlabelled in domain (1 gone)", 1),
    ]
    assert "weak.tsv: no such table" in reasons(steps[1])[0]
    for set_name in ("validation", "unlabel_in_domain"):
        table = missing_table(layout, set_name)
        assert table.name == f"missing_files_{set_name}.tsv"
        assert table.read_text() == f"filename\treason\n{name('all')}\tgone: Video unavailable\n"


def test_after_a_refusal_no_other_set_is_asked_for(desk, layout):
    desk.reply({"validation_": [BOT], video("all"): [BOT], video("weak"): [BOT]})
    steps = fetch_audioset(layout, ["real"], limits=HURRIED, jobs=1, progress=False)
    assert len(desk.asked()) == 1
    assert ["2 clips are left; YouTube refuses" in reasons(step)[0] for step in steps] == [True] * 3
    assert missing_table(layout, "weak").read_text().count("not fetched yet") == 2


def test_without_programs_every_set_says_so(desk, layout, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    steps = fetch_audioset(layout, ["real", "strong"], limits=HURRIED, progress=False)
    assert all("not on PATH" in reasons(step)[0] for step in steps) and len(steps) == 4


def test_a_bar_shows_counts(desk, layout, capfd):
    desk.reply({video("all"): [{"error": "Video unavailable"}]})
    fetch_audioset(layout, ["strong"], limits=HURRIED, jobs=1)
    told = capfd.readouterr().err
    assert "strong real: 2/2 clips (100 %)" in told and "fetched=1, gone=1" in told


def test_a_plan_says_what_would_be_fetched(desk, layout):
    audio = missing_table(layout, "weak").parents[1] / "audio"
    (audio / "train" / "weak").mkdir(parents=True)
    sf.write(audio / "train" / "weak" / name("all"), np.zeros(10), 44100)
    table = missing_table(layout, "strong")
    table.parent.mkdir()
    table.write_text(f"filename\treason\n{name('all')}\tgone: Video unavailable\n")
    layout.found("test_tsv").unlink()
    before = {path: path.read_bytes() for path in layout.basedir.rglob("*") if path.is_file()}

    plan = plan_audioset(layout, ["real", "strong"], progress=False)
    rows = {row.title: (row.listed, row.gone, len(row.seconds)) for row in plan.rows}
    assert rows == {
        "DESED validation": (0, 0, 0),
        "weak": (2, 0, 1),
        "strong real": (2, 1, 1),
        "unlabelled in domain": (2, 0, 2),
    }
    assert plan.left == 4 and plan.problem == ""
    # 10 s, two channels of two bytes as they are cut, and of four or two at 16 kHz.
    assert plan.needed == 4 * 10 * 2 * (2 * 44100 + 4 * 16000)
    smaller = plan_audioset(layout, ["real", "strong"], bits=16, progress=False)
    assert smaller.needed == 4 * 10 * 2 * (2 * 44100 + 2 * 16000)
    assert "DESED validation                  known once its table exists" in plan.text()
    assert plan_audioset(layout, ["strong"], retry_gone=True, progress=False).left == 2
    assert desk.asked() == {}
    assert before == {p: p.read_bytes() for p in layout.basedir.rglob("*") if p.is_file()}


def test_a_plan_tells_the_time_and_what_is_lacking(desk, layout, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    text = plan_audioset(layout, ["real"], limits=RateLimits(pause_s=1200), progress=False).text()
    assert "to fetch: 6 clips, 0.0 GB" in text
    assert "at one in 1200 s it takes 2 hours" in text
    assert "ffmpeg (apt install ffmpeg" in text.splitlines()[-1]
