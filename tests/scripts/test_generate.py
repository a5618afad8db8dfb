"""generate_dcase_task4_2024.py, run as a user runs it (the mini corpus has its own tests)."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import generate_dcase_task4_2024 as script
from tests.in_process import run_main
from tests.local.prep.download.http_server import Fault

ROOT = Path(__file__).parents[2]
SCRIPT = "generate_dcase_task4_2024.py"
WEAK = "dcase/dataset/audio/train/weak"


def generate(*arguments, cwd=ROOT):
    """Run the script here; gives its status and what it printed."""
    return run_main(SCRIPT, *without_internet(arguments), cwd=cwd)


def start(*arguments, cwd=ROOT):
    """Start the script as a process, to be killed or to show that it runs as a user runs it."""
    command = [sys.executable, str(ROOT / SCRIPT), *without_internet(arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True)


def without_internet(arguments):
    words = [*map(str, arguments)]
    if not {"--mini", "--mirror", "--offline", "--check"}.intersection(words):
        words.append("--offline")
    return words


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / WEAK
    folder.mkdir(parents=True)
    for i in range(3):
        sf.write(folder / f"Y{i}.wav", np.random.default_rng(i).normal(0, 0.1, (4410, 2)), 44100)
    return tmp_path


def test_what_is_there_is_prepared_and_what_is_not_is_listed(base):
    with start("--basedir", base) as process:  # as a user runs it
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err.count("error")) == (0, 0)
    made = sorted((base / f"{WEAK}_16k").iterdir())
    assert [path.name for path in made] == ["Y0.wav", "Y1.wav", "Y2.wav"]
    assert {(sf.info(path).samplerate, sf.info(path).channels) for path in made} == {(16000, 2)}
    rows = {line.split("  ")[0]: line.split() for line in out.splitlines()}
    assert rows["weak"][1:] == ["3", "0", "0"]
    assert rows["strong real"][-1] == str(base / "dcase/dataset/audio/train/strong_label_real")
    assert rows["weak: labels"][-1] == str(base / "dcase/dataset/metadata/train/weak.tsv")
    assert "Run again to fetch what can be fetched" in out


def test_a_failed_file_is_named_and_the_status_is_1(base):
    (base / WEAK / "Ybad.wav").write_bytes(b"<html>404</html>")
    run = generate("--basedir", base, "--only_real", "--jobs", 1)
    assert run.returncode == 1
    assert f"failed: {base / WEAK / 'Ybad.wav'}: is not readable as audio" in run.stderr
    assert len(list((base / f"{WEAK}_16k").iterdir())) == 3
    (base / WEAK / "Ybad.wav").unlink()
    assert generate("--basedir", base, "--only_real").returncode == 0


def test_bits_are_obeyed_and_told(base):
    target = base / f"{WEAK}_16k"

    def subtypes():
        return [sf.info(path).subtype for path in sorted(target.iterdir())]

    command = ["--basedir", base, "--only_real"]
    assert generate(*command).returncode == 0
    assert subtypes() == ["FLOAT"] * 3
    assert generate(*command, "--bits", 16).returncode == 0
    assert subtypes() == ["PCM_16"] * 3
    run = generate(*command)
    (note,) = (line for line in run.stdout.splitlines() if line.startswith("note: "))
    assert (run.returncode, run.stderr.count("error"), subtypes()) == (0, 0, ["PCM_16"] * 3)
    assert note == (
        "note: 16-bit files are used as they are and completed in 16 bits: weak; --bits 32 writes "
        "them again as 32-bit float, as the published files are"
    )
    run = generate(*command, "--bits", 32)
    assert "had 16-bit (3) files; written again as 32-bit float: 3" in run.stdout
    assert subtypes() == ["FLOAT"] * 3


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_rewrite_that_was_killed_is_completed(base, sent, status):
    folder, target = base / WEAK, base / f"{WEAK}_16k"
    for path in folder.iterdir():
        path.unlink()
    sf.write(folder / "long.wav", np.random.default_rng(0).normal(0, 0.1, 441000), 44100)
    for i in range(40):
        os.link(folder / "long.wav", folder / f"Z{i:03d}.wav")
    command = ["--basedir", base, "--only_real", "--jobs", 1]

    def n_floats():
        return sum(path.stat().st_size > 400_000 for path in target.glob("[!.]*"))

    generate(*command, "--bits", 16)
    with start(*command, "--bits", 32) as process:
        while n_floats() < 3:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(sent)
        process.communicate(timeout=60)
    assert process.returncode == status
    done = n_floats()
    assert 3 <= done < 41
    again = generate(*command)  # Of a mixed folder, also without the flag.
    row = next(line for line in again.stdout.splitlines() if line.startswith("weak "))
    assert row.split() == ["weak", str(41 - done), str(done), "0"]
    assert f"had 16-bit ({41 - done}) and 32-bit float ({done}) files" in again.stdout
    assert n_floats() == 41


def test_out_dir_and_conf_file_are_obeyed(base):
    conf = ROOT / "confs" / "mini.yaml"
    run = generate("--basedir", base, "--out_dir", base / "out", "--conf_file", conf)
    assert run.returncode == 0
    assert len(list((base / "out" / f"{WEAK}_16k").iterdir())) == 3
    assert not (base / f"{WEAK}_16k").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--basedir", "absent"], "error: absent: no such folder (looked up from "),
        (
            ["--basedir", "."],
            "error: .: contains nothing to prepare for synth, strong, real, maestro, eval",
        ),
        (["--conf_file", "absent.yaml"], "error: absent.yaml: no such configuration file"),
        (["--mini", "--only_real"], "error: --mini makes the whole corpus in BASEDIR; leave"),
        (["--mini", "--out_dir", "x"], "leave out --only_* and --out_dir"),
        (["--mini", "--dry_run"], "error: --mini fetches nothing; leave out --mirror, --dry_run"),
        (["--offline", "--dry_run"], "error: --offline fetches nothing; leave out --mirror, --dry"),
        (["--mirror", "/data"], "error: --mirror /data: not an address; it must begin with http"),
        (
            ["--mirror", "http://127.0.0.1:1", "--sources", "absent.yaml"],
            "error: absent.yaml: no such table of sources (looked up from ",
        ),
        (["--jobs", "0"], "error: argument --jobs: 0 is not above 0"),
        (["--check", "--only_real"], "error: --check reads all that --conf_file names; it goes"),
        (["--offline", "--cookies", "c.txt"], "leave out --mirror, --dry_run and the like"),
        (["--check", "--mirror", "http://127.0.0.1:1"], "it goes with --out_dir and --jobs"),
        (["--check", "--mini"], "it goes with --out_dir and --jobs"),
        (["--check", "--conf_file", "absent.yaml"], "absent.yaml: no such configuration file"),
        (["--check", "--bits", "32"], "it goes with --out_dir and --jobs"),
        (["--bits", "24"], "error: argument --bits: invalid choice: "),  # quoted from 3.14 on
        (["--only_music"], "error: unrecognized arguments: --only_music"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(tmp_path, arguments, message):
    (tmp_path / "confs").symlink_to(ROOT / "confs")
    run = generate(*arguments, cwd=tmp_path)
    assert run.returncode == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_everything_is_fetched_and_prepared(tmp_path, server, contents):
    parts = ["--only_synth", "--only_maestro", "--only_eval", "--only_checkpoint"]
    command = ["--basedir", tmp_path / "new", "--mirror", server.url, *parts, "--jobs", 2]
    plan = generate(*command, "--dry_run")
    assert (plan.returncode, plan.stderr) == (0, "")
    assert not (tmp_path / "new").exists()
    fetched = ["dcase_synth.zip", "development_audio.zip", "development_annotation.zip"]
    fetched += ["dcase2024_task4_eval.zip", "baseline_pretrained_2024.zip"]
    for name in fetched:
        assert re.search(rf"^{name} .* to fetch$", plan.stdout, re.M)
    run = generate(*command)
    assert run.returncode == 0, run.stderr
    for name in fetched:
        assert re.search(rf"^{name} +fetched$", run.stdout, re.M)
    audio = tmp_path / "new" / "dcase/dataset/audio"
    for folder in ("eval24_16k", "maestro_real_train_16k", "maestro_real_validation_16k"):
        assert any((audio / folder).glob("*.wav")), folder
    asked = len(server.requests)
    again = generate(*command)
    assert again.returncode == 0
    assert len(server.requests) == asked
    assert len(re.findall("there before$", again.stdout, re.M)) == len(fetched)


def test_the_checkpoint_alone(tmp_path, server):
    run = generate("--basedir", tmp_path, "--mirror", server.url, "--only_checkpoint")
    assert (run.returncode, run.stdout.split()) == (0, ["baseline_pretrained_2024.zip", "fetched"])
    assert (tmp_path / "baseline_pretrained_2024/epoch=259-step=30680.ckpt").is_file()


def test_what_cannot_be_fetched_is_named_and_what_is_there_is_prepared(base, server):
    del server.files["/audioset_metadata.tar.gz"]
    run = generate("--basedir", base, "--mirror", server.url, "--only_real")
    assert run.returncode == 1
    assert f"failed: {server.url}/audioset_metadata.tar.gz: not found (HTTP 404" in run.stderr
    assert len(list((base / f"{WEAK}_16k").iterdir())) == 3
    empty = generate("--basedir", base / "x", "--mirror", server.url, "--only_real")
    assert empty.returncode == 2
    assert "failed: " in empty.stderr.split("error: ")[0]
    assert "contains nothing to prepare for real" in empty.stderr.split("error: ")[1]


def test_a_dry_run_of_what_cannot_be_had_has_status_1(tmp_path, server):
    del server.files["/dcase_synth.zip"]
    del server.files["/api/records/6026841"]
    run = generate("--basedir", tmp_path, "--mirror", server.url, "--only_synth", "--dry_run")
    assert run.returncode == 1
    assert "HTTP 404" in run.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_fetch_that_was_stopped_is_gone_on_with(tmp_path, server, contents, sent):
    go_on = threading.Event()
    server.files["/dcase_synth.zip"].faults = [Fault(hang=go_on)]
    command = ["--basedir", tmp_path, "--mirror", server.url, "--only_synth"]
    part = tmp_path / "downloads" / "dcase_synth.zip.part"
    with start(*command) as process:
        while not (part.is_file() and part.stat().st_size > 0):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(sent)
        if sent == signal.SIGINT:
            time.sleep(0.2)  # It ends when its block does.
        go_on.set()
        _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if sent == signal.SIGINT else -9)
    assert "Traceback" not in err
    assert not (tmp_path / "dcase").exists()
    size = part.stat().st_size
    assert generate(*command).returncode == 0
    assert server.asked("/dcase_synth.zip")[-1]["Range"] == f"bytes={size}-"


def test_a_stopped_run_is_completed(base):
    generate("--basedir", base, "--only_real")
    target = base / f"{WEAK}_16k"
    (target / "Y0.wav").unlink()
    (target / "Y1.wav").write_bytes((target / "Y1.wav").read_bytes()[:900])
    run = generate("--basedir", base, "--only_real")
    row = next(line for line in run.stdout.splitlines() if line.startswith("weak "))
    assert row.split() == ["weak", "2", "1", "0"]
    assert sf.info(target / "Y1.wav").frames == 1600


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_run_that_was_killed_can_be_run_again(base, sent, status):
    folder, target = base / WEAK, base / f"{WEAK}_16k"
    sf.write(folder / "long.wav", np.random.default_rng(0).normal(0, 0.1, 441000), 44100)
    for i in range(150):
        os.link(folder / "long.wav", folder / f"Z{i:03d}.wav")
    with start("--basedir", base, "--only_real", "--jobs", 1) as process:
        while not (target.is_dir() and len(list(target.iterdir())) > 5):
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(sent)
        process.communicate(timeout=60)
    assert process.returncode == status
    finished = {path.name for path in target.glob("[!.]*")}
    assert 3 <= len(finished) < 154
    assert {sf.info(target / name).frames for name in finished} <= {1600, 160000}
    again = generate("--basedir", base, "--only_real")
    row = next(line for line in again.stdout.splitlines() if line.startswith("weak "))
    assert row.split() == ["weak", str(154 - len(finished)), str(len(finished)), "0"]


def test_check_tells_that_all_is_there(extracted, tmp_path):
    run = generate("--check", "--conf_file", extracted, "--out_dir", tmp_path / "o", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    rows = {line.split("  ")[0]: line.split() for line in run.stdout.splitlines()}
    assert rows["DESED dev-test"][2:4] == ["6", "5"]
    assert "training can start: 0 errors, 0 warnings, 3 notes" in run.stdout
    assert "72/72" in run.stderr
    report = json.loads((tmp_path / "o" / "data_report.json").read_text())
    assert report["training_would_fail"] is False
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_check_without_any_data_is_a_table_and_status_1(tmp_path):
    """The published configuration, started where no data is."""
    run = generate("--check", "--conf_file", ROOT / "confs" / "pretrained.yaml", cwd=tmp_path)
    assert run.returncode == 1, run.stderr
    assert "Traceback" not in run.stderr
    rows = [line.split() for line in run.stdout.splitlines() if line.endswith("  absent")]
    assert [row[-9] for row in rows] == ["0"] * 9  # clips there
    assert [row[-4] for row in rows] == ["-"] * 9  # bits
    assert "error: no data in ../../data/dcase/dataset (looked up from " in run.stdout
    assert "training would fail: 1 error, " in run.stdout
    report = json.loads((tmp_path / "data_report.json").read_text())
    assert report["training_would_fail"] is True
    assert len(report["parts"]) == 9


def test_mini_makes_the_corpus_where_and_as_asked(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(
        "local.prep.mini_corpus.make.make_mini_corpus",
        lambda basedir, bits, jobs, overwrite: made.append((basedir, bits, jobs, overwrite)),
    )
    assert script.main(["--mini"]) == 0
    start = ["--mini", "--basedir", str(tmp_path), "--jobs", "3", "--bits", "16", "--overwrite"]
    assert script.main(start) == 0
    assert made == [(Path("data/mini"), None, None, False), (tmp_path, 16, 3, True)]


def test_plot_draws_where_asked(tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr("local.prep.mini_corpus.make.make_mini_corpus", lambda *_, **__: None)
    monkeypatch.setattr(
        "local.prep.plots.plot_clips",
        lambda basedir, out_dir: drawn.append(out_dir) or [out_dir / "clip.png"],
    )
    start = ["--mini", "--basedir", str(tmp_path), "--plot"]
    assert script.main(start) == 0
    assert script.main([*start, str(tmp_path / "pictures")]) == 0
    assert drawn == [tmp_path / "plots", tmp_path / "pictures"]
    assert f"drawn: {tmp_path / 'pictures' / 'clip.png'}" in capsys.readouterr().out
