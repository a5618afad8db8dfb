"""One file over HTTP, from a server that misbehaves."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from desed_task.errors import InputError
from local.cli.exit_status import StoppedError
from local.prep.download import resumable_download as module
from local.prep.download.http_response import retry_after_s
from local.prep.download.resumable_download import (
    BLOCK_BYTES,
    DownloadProgress,
    RemoteFile,
    RetryPolicy,
    download,
)
from tests.local.prep.download.http_server import Fault, Server

ROOT = Path(__file__).parents[4]
BODY = np.random.default_rng(0).bytes(4 * BLOCK_BYTES + 12345)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"
FAST = RetryPolicy(tries=4, first_wait_s=0.001, longest_wait_s=0.01, timeout_s=(5.0, 5.0))


class Heard(DownloadProgress):
    """Keeps what it is told."""

    def __init__(self):
        self.said, self.seen = [], []

    def at(self, done, total):
        self.seen.append((done, total))

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def server():
    with Server() as server:
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "downloads" / "clips.zip"


def fetch(url, target, size=None, checksum=None, **options):
    options.setdefault("policy", FAST)
    heard = Heard()
    download(RemoteFile(url, size, checksum), target, progress=heard, **options)
    return heard


def leftovers(target):
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def test_a_file_comes_whole_and_leaves_nothing_beside_it(server, target):
    heard = fetch(server.put("clips.zip", BODY), target, len(BODY), MD5)
    assert target.read_bytes() == BODY
    assert leftovers(target) == []
    assert heard.seen[0] == (0, len(BODY)) and heard.seen[-1] == (len(BODY), len(BODY))
    assert heard.said == []
    assert len(server.asked("/clips.zip")) == 1


@pytest.mark.parametrize("percent", [10, 50, 99])
@pytest.mark.parametrize("known", [True, False], ids=["checksum", "nothing known"])
def test_a_cut_connection_is_gone_on_with(server, target, percent, known):
    cut = len(BODY) * percent // 100
    url = server.put("clips.zip", BODY, faults=[Fault(cut_at=cut)])
    fetch(url, target, *((len(BODY), MD5) if known else ()))
    assert target.read_bytes() == BODY
    first, second = server.asked("/clips.zip")
    assert "Range" not in first
    start = int(second["Range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= cut and cut - start < BLOCK_BYTES
    assert second["If-Range"] == server.files["/clips.zip"].etag
    assert leftovers(target) == []


def test_every_cut_that_gets_further_is_forgiven(server, target):
    faults = [Fault(cut_at=100_000) for _ in range(9)]
    url = server.put("clips.zip", BODY, faults=faults)
    fetch(url, target)
    assert target.read_bytes() == BODY
    assert len(server.asked("/clips.zip")) == 10 > FAST.tries


def test_a_server_without_ranges_sends_all_of_it_again(server, target):
    url = server.put("clips.zip", BODY, faults=[Fault(cut_at=300_000)], ranges=False)
    heard = fetch(url, target)
    assert target.read_bytes() == BODY
    assert "Range" in server.asked("/clips.zip")[1]
    assert any("starts again" in said for said in heard.said)


def test_a_server_without_ranges_that_always_cuts_is_given_up(server, target):
    faults = [Fault(cut_at=300_000) for _ in range(99)]
    url = server.put("clips.zip", BODY, faults=faults, ranges=False)
    with pytest.raises(InputError, match=r"4 times in a row; 300000 bytes received and kept"):
        fetch(url, target)
    assert not target.exists()


def test_a_part_without_anything_to_tell_its_file_by_is_not_gone_on_with(server, target):
    url = server.put("clips.zip", BODY, faults=[Fault(cut_at=300_000)], etag=None)
    fetch(url, target)
    assert "Range" not in server.asked("/clips.zip")[1]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    ("about", "condition"),
    [
        ({"etag": None, "last_modified": 1e9}, formatdate(1e9, usegmt=True)),
        ({"etag": 'W/"weak"', "last_modified": 1e9}, formatdate(1e9, usegmt=True)),
        ({"etag": None}, None),
    ],
    ids=["by date", "weak tag", "by checksum"],
)
def test_how_a_file_is_recognised(server, target, about, condition):
    url = server.put("clips.zip", BODY, faults=[Fault(cut_at=300_000)], **about)
    fetch(url, target, len(BODY), MD5)
    second = server.asked("/clips.zip")[1]
    assert second["Range"].startswith("bytes=")
    assert second.get("If-Range") == condition
    assert target.read_bytes() == BODY


def begin(server, target, body=BODY, **about):
    """Leave a part of clips.zip, as a run that was given up does."""
    url = server.put("clips.zip", body, faults=[Fault(cut_at=500_000)], **about)
    with pytest.raises(InputError, match="times in a row"):
        fetch(url, target, policy=RetryPolicy(tries=1, timeout_s=(5.0, 5.0)))
    assert 0 < target.with_name("clips.zip.part").stat().st_size <= 500_000
    server.requests.clear()
    return url


def test_the_next_run_goes_on(server, target):
    url = begin(server, target)
    fetch(url, target, len(BODY), MD5)
    assert "Range" in server.asked("/clips.zip")[0]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("new", [BODY[::-1], BODY[:400_000], BODY + b"more"])
def test_a_file_that_changed_between_runs_is_fetched_anew(server, target, new):
    begin(server, target)
    fetch(server.put("clips.zip", new), target)
    assert target.read_bytes() == new
    assert leftovers(target) == []


@pytest.mark.parametrize("new", [BODY[::-1], BODY[:400_000], BODY + b"more"])
def test_a_change_that_no_tag_tells_comes_to_light_by_checksum(server, target, new):
    begin(server, target)
    url = server.put("clips.zip", new, etag='"same"')
    about = server.files["/clips.zip"]
    part = target.with_name("clips.zip.part.json")
    part.write_text(part.read_text().replace('"validator": "', '"validator": null, "was": "'))
    fetch(url, target, len(new), f"md5:{hashlib.md5(new).hexdigest()}")
    assert about.faults == [] and target.read_bytes() == new


def test_another_size_than_before_is_another_file_whatever_its_tag(server, target):
    begin(server, target, etag='"same"')
    new = BODY[::-1] + b"more"
    fetch(server.put("clips.zip", new, etag='"same"'), target)
    assert target.read_bytes() == new


def test_another_range_than_the_one_asked_for_is_not_appended(server, target):
    url = begin(server, target)
    range_ = f"bytes 7-{len(BODY) - 1}/{len(BODY)}"
    odd = Fault(headers={"Content-Range": range_}, body=BODY[::-1])
    server.files["/clips.zip"].faults.append(odd)
    fetch(url, target)
    assert target.read_bytes() == BODY


def test_a_part_that_is_longer_than_the_file_is_dropped(server, target):
    url = begin(server, target)
    with target.with_name("clips.zip.part").open("ab") as part:
        part.write(BODY)
    fetch(url, target, len(BODY), MD5)
    assert target.read_bytes() == BODY


def test_a_part_without_its_record_is_dropped(server, target):
    url = begin(server, target)
    target.with_name("clips.zip.part.json").write_text("{")
    fetch(url, target)
    assert "Range" not in server.asked("/clips.zip")[0]
    assert target.read_bytes() == BODY


def test_a_part_that_is_whole_is_not_asked_for(server, target):
    url = begin(server, target)
    target.with_name("clips.zip.part").write_bytes(BODY)
    fetch(url, target, len(BODY), MD5)
    assert server.requests == [] and target.read_bytes() == BODY


@pytest.mark.parametrize("status", [404, 410, 401, 403])
def test_what_is_not_there_is_said_at_once_with_remedy(server, target, status):
    url = server.put("clips.zip", BODY, faults=[Fault(status=status)])
    with pytest.raises(InputError) as error:
        fetch(url, target)
    assert url in str(error.value) and str(status) in str(error.value)
    assert "--mirror URL" in str(error.value)
    assert len(server.requests) == 1
    assert leftovers(target) == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_server_that_is_busy_is_asked_again(server, target, status):
    faults = [Fault(status=status, headers={"Retry-After": "0"})] * 3
    heard = fetch(server.put("clips.zip", BODY, faults=faults), target)
    assert target.read_bytes() == BODY
    assert [f"HTTP {status}" in said for said in heard.said] == [True] * 3


def test_retry_after_is_obeyed_and_capped(server, target, monkeypatch):
    waited = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waited.append(timeout)
            return False

    faults = [
        Fault(status=429, headers={"Retry-After": "7"}),
        Fault(status=503, headers={"Retry-After": "86400"}),
        Fault(status=503, headers={"Retry-After": formatdate(time.time() + 30, usegmt=True)}),
        Fault(status=503),
    ]
    policy = RetryPolicy(tries=9, first_wait_s=1, longest_wait_s=120)
    url = server.put("clips.zip", BODY, faults=faults)
    fetch(url, target, policy=policy, stop=Stop())
    assert waited[:2] == [7, 120]
    assert 20 < waited[2] <= 30
    assert waited[3] == 8  # the fourth failure in a row: 1, 2, 4, 8
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12", 12), (None, None), ("soon", None), ("-3", None), (formatdate(0, usegmt=True), 0)],
)
def test_retry_after_as_number_or_date(text, seconds):
    assert retry_after_s(text) == seconds


def test_a_server_that_stays_busy_is_given_up(server, target):
    url = server.put("clips.zip", BODY, faults=[Fault(status=503)] * 9)
    with pytest.raises(InputError, match=r"HTTP 503 .*4 times in a row.*HTTPS_PROXY.*--mirror"):
        fetch(url, target)
    assert len(server.requests) == FAST.tries


def test_a_wrong_checksum_costs_one_more_try(server, target):
    url = server.put("clips.zip", BODY, faults=[Fault(body=BODY[::-1])])
    heard = fetch(url, target, len(BODY), MD5)
    assert target.read_bytes() == BODY
    assert len(heard.said) == 1 and "md5" in heard.said[0] and "deleted" in heard.said[0]


def test_a_checksum_that_stays_wrong_is_an_error(server, target):
    url = server.put("clips.zip", BODY)
    wrong = "sha256:" + "0" * 64
    with pytest.raises(InputError, match=r"has sha256 \w{64} instead of 0{64}, twice; .*deleted"):
        fetch(url, target, len(BODY), wrong)
    assert len(server.requests) == 2
    assert list(target.parent.iterdir()) == []


def test_a_file_that_is_there_stays_until_the_new_one_is_whole(server, target):
    target.parent.mkdir()
    target.write_bytes(b"old")
    url = server.put("clips.zip", BODY, faults=[Fault(cut_at=300_000)] * 4, ranges=False)
    with pytest.raises(InputError):
        fetch(url, target)
    assert target.read_bytes() == b"old"
    fetch(url, target)
    assert target.read_bytes() == BODY


def test_another_size_than_the_known_one_is_said_before_it_is_fetched(server, target):
    url = server.put("clips.zip", BODY)
    with pytest.raises(InputError, match=rf"has {len(BODY)} bytes instead of 77"):
        fetch(url, target, 77)
    assert list(target.parent.iterdir()) == []


def test_a_web_page_is_not_taken_for_the_file(server, target):
    url = server.put("clips.zip", b"<html>log in", content_type="text/html; charset=utf-8")
    with pytest.raises(InputError, match="a web page came instead of the file"):
        fetch(url, target)


def test_chunked_bodies_come_whole_or_again(server, target):
    url = server.put("clips.zip", BODY, chunked=True, faults=[Fault(cut_at=len(BODY) - 1)])
    fetch(url, target)
    assert target.read_bytes() == BODY
    assert len(server.requests) == 2


def test_a_body_without_any_length_needs_a_known_size(server, target):
    url = server.put("clips.zip", BODY, length=False)
    with pytest.raises(InputError, match="does not say how large the file is"):
        fetch(url, target)
    server.files["/clips.zip"].faults.append(Fault(cut_at=300_000))
    fetch(url, target, len(BODY))
    assert target.read_bytes() == BODY
    assert server.asked("/clips.zip")[-1]["Range"] == "bytes=300000-"


def test_an_archive_that_is_called_an_encoding_stays_packed(server, target):
    fault = Fault(headers={"Content-Encoding": "x-gzip"})
    fetch(server.put("clips.zip", BODY, faults=[fault]), target, len(BODY), MD5)
    assert target.read_bytes() == BODY
    assert server.asked("/clips.zip")[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://no-such-host.invalid/x"])
def test_no_server_at_all(target, url):
    with pytest.raises(InputError, match=r"4 times in a row; 0 bytes received"):
        fetch(url, target)


def test_an_address_that_is_none(target):
    with pytest.raises(InputError, match="cannot be requested"):
        fetch("http://[x/clips.zip", target)


def test_a_proxy_of_the_environment_is_used(server, target, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    server.files["http://data.example/clips.zip"] = server.files.pop(
        server.put("clips.zip", BODY).removeprefix(server.url)
    )
    fetch("http://data.example/clips.zip", target)
    assert target.read_bytes() == BODY


def test_a_proxy_that_is_down_is_named(target, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(InputError, match="proxy does not let it through"):
        fetch("http://data.example/clips.zip", target)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_and_the_part_is_kept(server, target, monkeypatch, number):
    url, real, blocks = server.put("clips.zip", BODY), module._write, []

    def write(file_write, block):
        blocks.append(block)
        if len(blocks) == 3:
            file_write(block[:1000])
            raise OSError(number, os.strerror(number))
        real(file_write, block)

    monkeypatch.setattr(module, "_write", write)
    with pytest.raises(
        InputError, match=r"no space left on the disk .*the partial file is kept.*--basedir"
    ):
        fetch(url, target)
    assert leftovers(target) == ["clips.zip.part", "clips.zip.part.json"]
    monkeypatch.setattr(module, "_write", real)
    fetch(url, target, len(BODY), MD5)
    assert target.read_bytes() == BODY
    assert server.asked("/clips.zip")[1]["Range"] == f"bytes={2 * BLOCK_BYTES + 1000}-"


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        fetch(server.put("clips.zip", BODY), tmp_path / "file" / "clips.zip")


def test_stop_ends_it_and_keeps_the_part(server, target):
    stop = threading.Event()

    class Stopping(DownloadProgress):
        def at(self, done, total):
            if done:
                stop.set()

    url = server.put("clips.zip", BODY)
    with pytest.raises(StoppedError, match=f"{BLOCK_BYTES} bytes received"):
        download(RemoteFile(url), target, stop=stop, progress=Stopping())
    fetch(url, target)
    assert target.read_bytes() == BODY
    assert server.asked("/clips.zip")[1]["Range"] == f"bytes={BLOCK_BYTES}-"


KILLED = """
import sys
from pathlib import Path
from local.prep.download.resumable_download import RemoteFile, download
download(RemoteFile(sys.argv[1]), Path(sys.argv[2]))
"""


def test_what_a_killed_run_left_is_gone_on_with(server, target):
    go_on = threading.Event()
    url = server.put("clips.zip", BODY, faults=[Fault(hang=go_on)])
    command = [sys.executable, "-c", KILLED, url, str(target)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        part = target.with_name("clips.zip.part")
        while not (part.is_file() and part.stat().st_size >= 2 * BLOCK_BYTES):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    go_on.set()
    assert not target.exists()
    fetch(url, target)
    assert target.read_bytes() == BODY
    assert server.asked("/clips.zip")[1]["Range"].startswith(f"bytes={2 * BLOCK_BYTES}")
