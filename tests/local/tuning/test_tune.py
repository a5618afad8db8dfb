"""What several machines, and processes that torchrun or SLURM has started, need and print."""

from __future__ import annotations

import pytest

from optuna_pretrained import main

SECOND = {
    "RANK": "1",
    "WORLD_SIZE": "3",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "3",
    "MASTER_ADDR": "x",
    "MASTER_PORT": "1",
}


@pytest.fixture
def tune(tmp_path, monkeypatch, capsys):
    """Runs the command with variables; returns status, output and errors."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def run(*words, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        status = main(["--log_dir", str(tmp_path / "tuning"), *words])
        return (status, *capsys.readouterr())

    yield run
    assert not (tmp_path / "tuning" / "optuna-sed.db").exists()


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        ((), SECOND, "without --storage: an SQLite file is for one tuner, but 3 processes share"),
        (
            ("--storage", "sqlite:////a/b.db"),
            SECOND,
            "--storage sqlite:////a/b.db: an SQLite file is for one tuner, but 3 processes",
        ),
        (("--storage", "SQLite+pysqlite:///x"), SECOND, "an SQLite file is for one tuner"),
        (
            ("--num_nodes", "2"),
            {},
            "without --storage: an SQLite file is for one tuner, but 2 mach",
        ),
        ((), {"RANK": "0", "WORLD_SIZE": "2"}, "but not LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR"),
        (("--devices", "1,2"), {}, "--devices 1,2: PyTorch finds no GPU on this machine"),
        (("--test_from_checkpoint", "a.ckpt", "--devices", "2"), {}, "--devices 2: stage two comp"),
        (("--test_from_checkpoint", "a.ckpt", "--num_nodes", "2"), {}, "--num_nodes 2: stage two"),
    ],
)
def test_what_cannot_be_shared_is_refused(tune, words, environment, message):
    status, _, err = tune(*words, **environment)
    assert status == 2 and message in err


def test_a_report_is_written_by_the_first_process(tune, tmp_path):
    status, out, err = tune("--report", **SECOND)
    assert (status, out, err) == (0, "", "")
    status, out, err = tune("--report", RANK="0", LOCAL_RANK="0")
    assert status == 2 and "nothing was tuned there yet" in err
    assert out == "computing in one process; the other 2 end at once\n"


def test_machines_are_told_to_start_the_same_command(tune, tmp_path):
    words = ("--num_nodes", "2", "--storage", str(tmp_path / "study.log"), "--devices", "999")
    status, out, err = tune(*words, SLURM_NTASKS="4")
    assert status == 2 and "--devices 999: this machine has no GPU and" in err
    first, second, *_ = out.splitlines()
    assert first == "this is one of 2 machines: start the same command on each of them"
    assert second.startswith(
        "SLURM has allotted 4 tasks, but this command is not started with srun"
    )


@pytest.mark.parametrize("theirs", ["scores/mine.npz", "optuna-sed.log", "report"])
def test_files_and_folders_of_the_user_make_no_study_of_a_folder(tune, tmp_path, theirs):
    """Even if they are called as those of a study."""
    folder = tmp_path / "tuning"
    for name in (theirs, "best.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    status, _, err = tune("--devices", "999", "--n_trials", "1")
    assert status == 2 and "would be replaced; move them away" in err
    named = {line.removeprefix("  - ") for line in err.splitlines() if line.startswith("  - ")}
    expected = {folder / "best.yaml"} | ({folder / theirs} if "/" not in theirs else set())
    assert {name.removesuffix(" (a folder is needed)") for name in named} == set(map(str, expected))
    assert (folder / theirs).read_text() == (folder / "best.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("optuna-sed.log", b"2026-11-26 23:40:38  trial 0  complete  0.07  best 0.07 (trial 0)\n"),
        ("scores/devtest_devtest.npz", b""),
    ],
)
def test_studies_of_earlier_versions_go_on(tune, tmp_path, name, content):
    folder = tmp_path / "tuning"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(content)
    (folder / "best.yaml").write_text("of an earlier version")
    status, _, err = tune("--devices", "999", "--n_trials", "1")
    assert status == 2 and "--devices 999: this machine has no GPU and" in err
