"""generate_dcase_task4_2024.py --only_encoders, as a user runs it, from a loopback server."""

import io
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from desed_task.encoders.vit.atst_frame import AtstFrame
from desed_task.encoders.vit.blocks import BlockSizes
from tests.in_process import run_main
from tests.local.prep.download.http_server import Fault, Server

ROOT = Path(__file__).parents[2]
SCRIPT = "generate_dcase_task4_2024.py"
ATST = "ATST-F_strong_1.pt"


@pytest.fixture(scope="module")
def weights():
    """More than the blocks that a download is written in."""
    torch.manual_seed(0)
    state = {
        f"model.atst.{k}": v for k, v in AtstFrame(BlockSizes(64, 2048, 1)).state_dict().items()
    }
    content = io.BytesIO()
    torch.save({**state, "strong_head.weight": torch.zeros(447, 64)}, content)
    return content.getvalue()


@pytest.fixture
def host(weights):
    with Server() as host:
        host.put(ATST, weights)
        yield host


def words(host, *arguments):
    sources = ("--sources", ROOT / "confs/sources.yaml", "--conf_file", ROOT / "confs/mini.yaml")
    return [*map(str, (*arguments, "--mirror", host.url, *sources))]


def fetch(host, *arguments, cwd):
    return run_main(SCRIPT, *words(host, "--only_encoders", *arguments), cwd=cwd)


def test_weights_go_into_the_current_folder_and_nothing_else_is_fetched(host, tmp_path, weights):
    done = fetch(host, "atst_frame", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[0].startswith("atst_frame: atst_frame_strong, the recipe's default; there are ")
    assert told[1].split() == ["weights", "size", "state"]
    assert told[2].split()[0] == "atst_frame_strong" and told[2].endswith("to fetch")
    assert "licence: not stated (code: MIT; ATST's own" in told[3]
    assert told[4] == f"  {host.url}/{ATST}"
    assert told[6].split() == ["atst_frame_strong", "fetched"]
    assert told[7].startswith(f"pretrained_models/{ATST}: ATST-Frame, 1 block of 64 features")
    assert told[8].startswith("  SHA-256 ")
    assert told[9] == "  next: python extract_embeddings.py --set pretrained.model=atst_frame"
    assert (tmp_path / "pretrained_models" / ATST).read_bytes() == weights
    assert [path.name for path in tmp_path.iterdir()] == ["pretrained_models"]
    again = fetch(host, "atst_frame", "--basedir", "x", "--overwrite", cwd=tmp_path)
    assert again.returncode == 0 and "there before" in again.stdout
    assert "--basedir, --overwrite: without effect on weights" in again.stdout
    assert len(host.asked(f"/{ATST}")) == 1


def test_a_dry_run_writes_nothing_and_knows_what_cannot_be_had(host, tmp_path):
    done = fetch(host, "atst_frame", "--dry_run", cwd=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (0, [])
    assert "which is enough" in done.stdout and not host.asked(f"/{ATST}")
    done = fetch(host, "all", "--dry_run", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("not found (HTTP 404)") == 14


def test_failures_are_told_and_the_others_arrive(host, tmp_path):
    done = fetch(host, "m2d", "atst_frame_strong", cwd=tmp_path)
    assert done.returncode == 1
    assert f"failed: {host.url}/M2D_strong_1.pt: not found (HTTP 404" in done.stderr
    assert (tmp_path / "pretrained_models" / ATST).is_file()


def test_data_and_weights_in_one_command(host, server, tmp_path, weights):
    server.put(ATST, weights)
    done = fetch(server, "atst_frame", "--only_strong", "--basedir", tmp_path / "d", cwd=tmp_path)
    assert "atst_frame_strong  fetched" in done.stdout
    assert "audioset_strong.tsv  fetched" in done.stdout
    assert (tmp_path / "pretrained_models" / ATST).is_file()
    assert not (tmp_path / "d/pretrained_models").exists()


def test_without_a_name_the_configuration_decides(host, tmp_path):
    """The mini configuration names a file of the mini corpus, which is not released."""
    done = fetch(host, "--dry_run", cwd=tmp_path)
    assert "beats: beats_ssl, as in the published baseline" in done.stdout
    assert "the configuration names ./data/mini/beats_mini.pt" in done.stdout
    mine = tmp_path / "data/mini/beats_mini.pt"
    mine.parent.mkdir(parents=True)
    mine.touch()
    done = fetch(host, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].endswith(
        "beats_mini.pt, which the configuration names, is there"
    )
    assert done.stdout.splitlines()[1].startswith("nothing to fetch")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only_encoders", "bets"), "error: --only_encoders bets: no such released weights"),
        (
            ("--only_encoders", "--offline"),
            "--offline fetches nothing; leave it out, or --only_enc",
        ),
        (("--only_encoders", "--mini"), "leave out --only_*"),
        (("--only_encoders", "beats", "--check"), "--check reads all that --conf_file names"),
    ],
)
def test_wrong_input_has_status_2(arguments, message, tmp_path):
    done = run_main(SCRIPT, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_fetch_that_was_stopped_is_resumed(host, tmp_path, weights):
    go_on = threading.Event()
    host.files[f"/{ATST}"].faults = [Fault(hang=go_on)]
    part = tmp_path / "pretrained_models/downloads" / f"{ATST}.part"
    command = [sys.executable, str(ROOT / SCRIPT), *words(host, "--only_encoders", "atst_frame")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as process:
        while not (part.is_file() and part.stat().st_size > 0):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        go_on.set()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    done = fetch(host, "atst_frame", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Range" in host.asked(f"/{ATST}")[-1]
    assert (tmp_path / "pretrained_models" / ATST).read_bytes() == weights
