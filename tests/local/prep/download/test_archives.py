"""Fetching all parts from a server on the loopback: whole, resumed, refused, and left alone."""

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from desed_task.errors import InputError
from local.cli.exit_status import StoppedError
from local.config import load_config
from local.prep.download import archives as module
from local.prep.download import plan as download_plan
from local.prep.download.archives import fetch_archives, plan_archives
from local.prep.download.resumable_download import BLOCK_BYTES, RetryPolicy
from local.prep.download.sources import FETCHED_PARTS, SourceTable, load_sources
from local.prep.layout import DataLayout
from tests.local.prep.download.http_server import Fault, Server
from tests.local.prep.download.published import RECORDS, SYNTH, publish, tar, zipped

ROOT = Path(__file__).parents[4]
FAST = RetryPolicy(tries=4, first_wait_s=0.001, longest_wait_s=0.01, timeout_s=(5.0, 5.0))
TABLE = load_sources(ROOT / "confs" / "sources.yaml")
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def layout(tmp_path):
    return DataLayout(load_config(ROOT / "confs" / "pretrained.yaml").data, tmp_path, tmp_path)


def fetch(layout, server, parts=tuple(FETCHED_PARTS), table=TABLE, **options):
    options.setdefault("policy", FAST)
    url = getattr(server, "url", server)
    return fetch_archives(layout, parts, table, mirror=url, progress=False, **options)


def outcome(steps):
    """Title -> what became of it."""
    return {s.title: "failed" if s.failed else "done" if s.done else "there" for s in steps}


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def data_files(layout):
    """All files but those of the folder of archives."""
    return {k: v for k, v in tree(layout.basedir).items() if not k.startswith("downloads/")}


def reason(steps):
    return "\n".join(text for step in steps for _, text in step.failed)


def test_every_part_comes_to_where_the_configuration_expects_it(layout, server, mini_root):
    steps = fetch(layout, server)
    names = [name for record in RECORDS.values() for name in record]
    assert sorted(outcome(steps).items()) == sorted((name, "done") for name in names)
    corpus = mini_root / "data" / "mini"
    for key in ("synth_folder_44k", "synth_val_folder_44k", "eval_folder_44k"):
        folder = layout.made(key)
        original = corpus / folder.relative_to(layout.basedir)
        assert tree(folder) == tree(original) != {}
    for key in ("synth_tsv", "synth_val_tsv", "strong_tsv", "weak_tsv", "test_tsv"):
        table = layout.made(key)
        assert table.read_bytes() == (corpus / table.relative_to(layout.basedir)).read_bytes()
    for folder in (layout.recordings_audio, layout.recordings_labels):
        assert tree(folder) == tree(corpus / folder.relative_to(layout.basedir)) != {}
    checkpoint = layout.basedir / "baseline_pretrained_2024" / "epoch=259-step=30680.ckpt"
    assert checkpoint.read_bytes() == b"weights" * 1000
    # Archives are gone, records of them stay.
    left = {path.name for path in (layout.basedir / "downloads").iterdir()}
    assert left == {".lock", *(f"{name}.json" for name in names)}


def test_what_is_whole_is_not_fetched_again(layout, server):
    fetch(layout, server)
    before, asked = tree(layout.basedir), len(server.requests)
    assert set(outcome(fetch(layout, server)).values()) == {"there"}
    assert tree(layout.basedir) == before
    assert len(server.requests) == asked
    # Also without any network, the evaluation set with its unpublished name included.
    assert set(outcome(fetch(layout, NOWHERE)).values()) == {"there"}


def test_only_the_parts_asked_for(layout, server):
    steps = fetch(layout, server, ["eval", "strong"])
    assert outcome(steps) == {"audioset_strong.tsv": "done", "dcase2024_task4_eval.zip": "done"}
    assert {path.split("/")[2] for path in data_files(layout)} == {"audio", "metadata"}


def test_a_clip_that_was_lost_is_brought_back_and_an_edited_table_stays(layout, server):
    fetch(layout, server, ["synth", "real"])
    before = data_files(layout)
    lost = next(iter(layout.made("synth_folder_44k").iterdir()))
    cut = next(iter(layout.made("synth_val_folder_44k").iterdir()))
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:100])
    edited = layout.made("synth_tsv")
    edited.write_text("filename\tonset\toffset\tevent_label\n")
    assert outcome(fetch(layout, server, ["synth", "real"])) == {
        "audioset_metadata.tar.gz": "there",
        "dcase_synth.zip": "done",
    }
    after = data_files(layout)
    name = str(edited.relative_to(layout.basedir))
    assert after.pop(name) == b"filename\tonset\toffset\tevent_label\n"
    before.pop(name)
    assert after == before
    plan = plan_archives(layout, ["synth"], TABLE, mirror=NOWHERE)
    assert plan.rows[0].state == ("there; edited: metadata/train/synthetic21_train/soundscapes.tsv")


def test_audio_that_was_changed_since_is_replaced_only_on_request(layout, server):
    fetch(layout, server, ["synth"])
    mine = min(layout.made("synth_folder_44k").iterdir())
    mine.write_bytes(b"of the user")
    steps = fetch(layout, server, ["synth"])
    assert outcome(steps) == {"dcase_synth.zip": "failed"}
    assert f"{mine}: is there with other content" in reason(steps)
    assert mine.read_bytes() == b"of the user"
    asked = sum("dcase_synth" in str(request) for request in server.requests)
    steps = fetch(layout, server, ["synth"], overwrite=True)
    assert outcome(steps) == {"dcase_synth.zip": "done"} and mine.read_bytes() != b"of the user"
    # The archive was kept.
    assert sum("dcase_synth" in str(request) for request in server.requests) <= asked + 1


def test_data_that_somebody_else_put_there_is_left_alone(layout, server):
    for key in ("synth_folder_44k", "synth_val_folder_44k"):
        layout.made(key).mkdir(parents=True)
        (layout.made(key) / "1.wav").write_bytes(b"x")
    for key in ("synth_tsv", "synth_val_tsv"):
        layout.made(key).parent.mkdir(parents=True, exist_ok=True)
        layout.made(key).write_text("filename\n")
    before = tree(layout.basedir)
    assert outcome(fetch(layout, NOWHERE, ["synth"])) == {"dcase_synth.zip": "there"}
    assert tree(layout.basedir) == before
    # An empty table is no content, but the others are not ours to replace.
    layout.made("synth_tsv").write_text("")
    before = data_files(layout)
    steps = fetch(layout, server, ["synth"])
    assert outcome(steps) == {"dcase_synth.zip": "failed"}
    assert data_files(layout) == before
    assert f"{layout.made('synth_val_tsv')} is there with other content" in reason(steps)
    steps = fetch(layout, server, ["synth"], overwrite=True)
    assert outcome(steps) == {"dcase_synth.zip": "done"}
    assert layout.made("synth_tsv").stat().st_size > 0
    # What came with it goes: nobody knows whether the table of somebody else was whole.
    assert len(layout.made("synth_val_tsv").read_text().splitlines()) > 1


def test_originals_may_go_when_all_is_made_from_them(layout, server):
    fetch(layout, server, ["eval"])
    clip = next(iter(layout.made("eval_folder_44k").iterdir()))
    made = layout.made("eval_folder") / clip.name
    made.parent.mkdir()
    made.write_bytes(b"16 kHz")
    clip.unlink()
    assert set(outcome(fetch(layout, NOWHERE, ["eval"])).values()) == {"there"}
    made.unlink()
    assert set(outcome(fetch(layout, server, ["eval"])).values()) == {"done"}
    assert clip.is_file()


@pytest.mark.parametrize("percent", [10, 50, 99])
def test_cut_connections_end_in_a_finished_fetch(layout, server, contents, percent):
    for name, content in contents.items():
        server.files[f"/{name}"].faults.append(Fault(cut_at=len(content) * percent // 100))
    assert set(outcome(fetch(layout, server)).values()) == {"done"}


def test_a_server_without_ranges_or_listing_ends_in_a_finished_fetch(layout, contents):
    with Server() as server:
        for name, content in contents.items():
            server.put(name, content, ranges=False, faults=[Fault(cut_at=len(content) // 2)])
        parts = ["synth", "strong", "real", "maestro", "checkpoint"]
        assert set(outcome(fetch(layout, server, parts)).values()) == {"done"}
        steps = fetch(layout, server, ["eval"])
        assert "no listing of the record" in reason(steps)


def test_one_failure_does_not_keep_the_others(layout, server, contents):
    del server.files["/dcase_synth.zip"]
    server.files["/audioset_strong.tsv"].body = b"wrong"
    server.files["/development_audio.zip"].faults = [Fault(status=503)] * 9
    steps = fetch(layout, server)
    failed = {step.title: step.failed[0][1] for step in steps if step.failed}
    assert set(failed) == {"dcase_synth.zip", "audioset_strong.tsv", "development_audio.zip"}
    assert f"{server.url}/dcase_synth.zip: not found (HTTP 404" in failed["dcase_synth.zip"]
    assert "--mirror URL" in failed["dcase_synth.zip"]
    assert "instead of" in failed["audioset_strong.tsv"]
    assert "HTTP 503" in failed["development_audio.zip"]
    assert not layout.made("strong_tsv").exists()
    assert not (layout.basedir / SYNTH).exists()
    publish(server, contents)
    again = outcome(fetch(layout, server))
    assert {title for title, what in again.items() if what == "done"} == set(failed)
    assert "failed" not in again.values()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dcase_synth.zip", zipped({"audio/a.wav": b"a", "../evil": b"evil"}), "leads out of"),
        ("audioset_metadata.tar.gz", tar({"train/weak.tsv": b"a", "/evil": b"e"}), "absolute path"),
    ],
)
def test_an_evil_archive_changes_nothing(tmp_path, server, contents, name, content, message):
    base = tmp_path / "deep" / "base"
    layout = DataLayout(load_config(ROOT / "confs" / "pretrained.yaml").data, base, base)
    publish(server, {**contents, name: content})
    steps = fetch(layout, server, ["synth", "real"])
    assert outcome(steps)[name] == "failed" and message in reason(steps)
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}
    assert {path.name for path in base.parent.iterdir()} == {"base"}
    into = {"dcase_synth.zip": SYNTH, "audioset_metadata.tar.gz": "dcase/dataset/metadata"}[name]
    assert not any(k.startswith(into) or "evil" in k for k in data_files(layout))
    # A new one, as its listing tells, takes its place.
    publish(server, contents)
    assert set(outcome(fetch(layout, server, ["synth", "real"])).values()) == {"done", "there"}


def test_an_archive_without_what_is_expected_is_named_and_not_taken_for_whole(layout, server):
    content = zipped({"dcase_synth/audio/somewhere/a.wav": b"x"})
    server.put("dcase_synth.zip", content)
    server.put_record(6026841, {"dcase_synth.zip": content})
    for _ in range(2):
        steps = fetch(layout, server, ["synth"])
        assert f"but {layout.made('synth_folder_44k')} is missing" in reason(steps)


def test_archives_that_were_put_there_by_hand_are_used(layout, contents):
    folder = layout.basedir / "downloads"
    folder.mkdir()
    for name in ("dcase_synth.zip", "audioset_strong.tsv"):
        (folder / name).write_bytes(contents[name])
    steps = fetch(layout, NOWHERE, ["synth", "strong"])
    assert outcome(steps) == {"dcase_synth.zip": "done", "audioset_strong.tsv": "done"}
    assert layout.made("strong_tsv").read_bytes() == contents["audioset_strong.tsv"]


def test_a_damaged_archive_that_was_put_there_is_replaced(layout, server, contents):
    folder = layout.basedir / "downloads"
    folder.mkdir()
    content = contents["dcase_synth.zip"]
    (folder / "dcase_synth.zip").write_bytes(content[:-1] + b"x")
    assert outcome(fetch(layout, server, ["synth"])) == {"dcase_synth.zip": "done"}
    (folder / "audioset_strong.tsv").write_bytes(b"half")
    assert outcome(fetch(layout, server, ["strong"])) == {"audioset_strong.tsv": "done"}
    assert layout.made("strong_tsv").read_bytes() == contents["audioset_strong.tsv"]


def test_the_table_redirects_as_the_flag_does(layout, server):
    table = SourceTable.model_validate({**TABLE.model_dump(), "mirror": server.url})
    steps = fetch_archives(layout, ["strong"], table, progress=False, policy=FAST)
    assert outcome(steps) == {"audioset_strong.tsv": "done"}


def test_nothing_is_begun_that_the_disk_cannot_hold(layout, server, monkeypatch):
    monkeypatch.setattr(download_plan, "_free", lambda folder: 1000)
    with pytest.raises(InputError, match=r"has room for 1\.0 kB, but .* must be fetched"):
        fetch(layout, server)
    assert tree(layout.basedir) == {}
    assert not server.asked("/dcase_synth.zip")


def test_two_runs_do_not_write_into_one_folder(layout, server):
    with (
        module.alone_in(module.downloads_folder(layout)),
        pytest.raises(InputError, match="another run is fetching"),
    ):
        fetch(layout, server, ["strong"])
    assert outcome(fetch(layout, server, ["strong"])) == {"audioset_strong.tsv": "done"}


def test_the_plan_tells_sizes_states_and_room_and_writes_nothing(layout, server, contents):
    fetch(layout, server, ["strong"])
    del server.files["/development_audio.zip"]
    del server.files["/api/records/7244360"]
    zip_size = len(contents["dcase_synth.zip"])
    assert zip_size > 2 * BLOCK_BYTES
    server.files["/dcase_synth.zip"].faults = [Fault(cut_at=zip_size // 2)]
    fetch(layout, server, ["synth"], policy=RetryPolicy(tries=1, timeout_s=(5.0, 5.0)))
    before = tree(layout.basedir)
    plan = plan_archives(layout, FETCHED_PARTS, TABLE, mirror=server.url)
    assert tree(layout.basedir) == before
    rows = {line.split("  ")[0]: line for line in plan.text().splitlines()}
    assert rows["audioset_strong.tsv"].split()[1:] == ["strong", "there"]
    assert "% there" in rows["dcase_synth.zip"]
    percent = int(rows["dcase_synth.zip"].split("% there")[0].split()[-1])
    assert 20 < percent <= 50
    assert download_plan.format_bytes(zip_size) in rows["dcase_synth.zip"]
    assert "HTTP 404" in rows["development_audio.zip"]
    annotation = download_plan.format_bytes(len(contents["development_annotation.zip"]))
    assert annotation in rows["development_annotation.zip"]
    assert rows["dcase2024_task4_eval.zip"].endswith("to fetch")
    assert not plan.is_feasible  # one is not to be had
    assert plan.text().splitlines()[-1].endswith("which is enough")


def test_the_plan_says_when_there_is_no_room(layout, server, contents, monkeypatch):
    size = len(contents["dcase_synth.zip"])
    for free, enough in ((5 * size, True), (2 * size, False)):
        monkeypatch.setattr(download_plan, "_free", lambda folder, free=free: free)
        plan = plan_archives(layout, ["synth"], TABLE, mirror=server.url)
        assert (plan.left, plan.is_feasible) == (size, enough)
        assert ("NOT ENOUGH" in plan.text()) != enough


def test_the_plan_without_network_says_that_sizes_are_unknown(layout):
    plan = plan_archives(layout, ["synth"], TABLE, mirror=NOWHERE)
    assert plan.rows[0].size is None
    assert "unknown" in plan.text()


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (7_340_000_000, "7.3 GB")]
)
def test_sizes_are_readable(size, text):
    assert download_plan.format_bytes(size) == text


KILLED = """
import sys, time
from pathlib import Path
from local.config import load_config
from local.prep.download import unpack
from local.prep.download.archives import fetch_archives
from local.prep.layout import DataLayout
from local.prep.download.sources import load_sources
root, base, url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
real = unpack._Work._copy
def slowly(self, read, target, size, name):
    if target.name == sys.argv[4]:
        target.with_name("hangs").touch()
        time.sleep(600)
    real(self, read, target, size, name)
unpack._Work._copy = slowly
places = DataLayout(load_config(root / "confs" / "pretrained.yaml").data, base, base)
fetch_archives(places, ["synth"], load_sources(root / "confs" / "sources.yaml"), mirror=url,
               progress=False)
"""


def test_a_run_that_was_killed_while_unpacking_is_done_again(layout, server, contents):
    """Everything that the configuration wants may be there by then, and it is not whole."""
    with zipfile.ZipFile(layout.basedir / "x.zip", "w") as archive:
        for name in ("synthetic21_train", "synthetic21_validation"):
            folder = "validation" if "val" in name else "train"
            archive.writestr(f"metadata/{folder}/{name}/soundscapes.tsv", "filename\n")
            for i in range(3):
                archive.writestr(f"audio/{folder}/{name}/soundscapes/{i}.wav", b"x" * 1000)
    content = (layout.basedir / "x.zip").read_bytes()
    (layout.basedir / "x.zip").unlink()
    server.put("dcase_synth.zip", content)
    server.put_record(6026841, {"dcase_synth.zip": content})
    last = layout.made("synth_val_folder_44k") / "2.wav"
    command = [sys.executable, "-c", KILLED, str(ROOT), str(layout.basedir), server.url, "2.wav"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        hangs = layout.made("synth_folder_44k") / "hangs"
        deadline = time.monotonic() + 60
        while not hangs.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    hangs.unlink()
    assert (hangs.parent / "1.wav").is_file() and not last.exists()
    asked = len(server.asked("/dcase_synth.zip"))
    assert outcome(fetch(layout, server, ["synth"])) == {"dcase_synth.zip": "done"}
    assert last.read_bytes() == b"x" * 1000
    assert len(server.asked("/dcase_synth.zip")) == asked  # the archive was whole
    assert outcome(fetch(layout, NOWHERE, ["synth"])) == {"dcase_synth.zip": "there"}


def test_a_half_unpacked_source_is_not_taken_for_one_that_somebody_put_there(
    layout, server, monkeypatch
):
    """As above, but stopped after the last file and before the record of it."""
    monkeypatch.setattr(module.UnpackRecord, "finish", lambda self, files: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fetch(layout, server, ["synth"])
    monkeypatch.undo()
    assert outcome(fetch(layout, server, ["synth"])) == {"dcase_synth.zip": "done"}


def test_what_is_made_of_half_a_source_does_not_stand_for_it(layout, server, monkeypatch):
    monkeypatch.setattr(module.UnpackRecord, "finish", lambda self, files: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fetch(layout, server, ["eval"])
    monkeypatch.undo()
    layout.made("eval_folder").mkdir()
    (layout.made("eval_folder") / "a.wav").write_bytes(b"16 kHz")
    assert outcome(fetch(layout, server, ["eval"])) == {"dcase2024_task4_eval.zip": "done"}


def test_an_error_of_ours_stops_the_other_downloads(layout, server, monkeypatch):
    """As Ctrl-C does: nobody wants to wait for the other gigabytes."""
    real, begun = module.download, threading.Event()

    def download(remote, target, *, stop, **options):
        if target.name == "audioset_strong.tsv":
            begun.wait(30)
            raise KeyboardInterrupt
        begun.set()
        if stop.wait(30):
            raise StoppedError("stopped")
        real(remote, target, stop=stop, **options)

    monkeypatch.setattr(module, "download", download)
    with pytest.raises((KeyboardInterrupt, StoppedError)):
        fetch(layout, server, ["strong", "synth"])
    assert data_files(layout) == {}


def test_memory_does_not_grow_with_the_archive(layout, server):
    peaks = []
    for megabytes in (8, 40):
        noise = np.random.default_rng(0).bytes(megabytes << 20)
        content = zipped({"eval24/a.wav": noise})
        server.put("dcase2024_task4_eval.zip", content)
        server.put_record(11425124, {"dcase2024_task4_eval.zip": content})
        (layout.made("eval_folder_44k") / "a.wav").unlink(missing_ok=True)
        server.files["/dcase2024_task4_eval.zip"].etag = None
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        fetch(layout, server, ["eval"])
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
        tracemalloc.stop()
        assert (layout.made("eval_folder_44k") / "a.wav").read_bytes() == noise
    # The server is in this process, so its slices count too: one copy of the body.
    assert peaks[1] - (40 << 20) < peaks[0] - (8 << 20) + (4 << 20)
