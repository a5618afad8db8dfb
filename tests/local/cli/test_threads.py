"""How many threads a command computes with, and what is set for that before PyTorch is loaded."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from local.cli import threads
from local.cli.exit_status import run_command
from local.cli.threads import (
    SPIN_VARIABLES,
    THREAD_VARIABLES,
    ThreadChoice,
    add_threads,
    choose_threads,
    resumed_threads,
    threads_set,
)

ROOT = Path(__file__).resolve().parents[3]
ALL = (*THREAD_VARIABLES, *SPIN_VARIABLES, "OMP_WAIT_POLICY")
COMMANDS = (
    *("train_pretrained", "extract_embeddings", "predict"),
    *("optuna_pretrained", "summarize_runs", "make_submission"),
)


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    """Four usable cores of 64, and an environment without threads."""
    monkeypatch.setattr(threads, "available_cores", lambda: 4)
    monkeypatch.setattr(threads, "affine_cores", lambda: 64)
    monkeypatch.setattr(threads, "cpu_quota", lambda: 4.5)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 64)
    for name in ALL:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("asked", "outside", "number", "source", "note"),
    [
        (None, {}, 4, "machine", "threads: 4 (of 64 cores; the CPU quota is 4.5)"),
        (3, {"OMP_NUM_THREADS": "2"}, 3, "flag", ""),
        (9, {}, 9, "flag", "more than the usable cores (4)"),
        (None, {"OMP_NUM_THREADS": "4"}, 4, "environment", ""),
        (None, {"OMP_NUM_THREADS": " 2 "}, 2, "environment", "threads: 2 (OMP_NUM_THREADS; usable"),
        (None, {"OMP_NUM_THREADS": "3,2"}, 3, "environment", "threads: 3 (OMP_NUM_THREADS"),
        (None, {"MKL_NUM_THREADS": "2"}, 2, "environment", "threads: 2 (MKL_NUM_THREADS"),
        (None, {"OMP_NUM_THREADS": "0", "MKL_NUM_THREADS": "2"}, 2, "environment", "=0 is not a"),
        *(
            (None, {"OMP_NUM_THREADS": bad}, 4, "machine", f"note: OMP_NUM_THREADS={bad} is not a")
            for bad in ("abc", "0", "-2", "1.5", "²", ",2")
        ),
        (None, {"OMP_NUM_THREADS": " "}, 4, "machine", "threads: 4 (of 64"),
    ],
)
def test_flag_environment_and_cores_decide_in_this_order(asked, outside, number, source, note):
    found = choose_threads(asked, outside)
    assert (found.number, found.source) == (number, source)
    assert (note in "\n".join(found.notes)) if note else not found.notes
    assert found.wanted == (None if source == "machine" else number)


def test_where_all_cores_are_used_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 4)
    choose_threads(None, {}).begin()
    assert not capsys.readouterr().out
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(threads, "affine_cores", lambda: 4)
    choose_threads(None, {}).begin()
    assert capsys.readouterr().out == "threads: 4 (of 8 cores; the affinity of this process)\n"


@pytest.mark.parametrize(
    ("outside", "asked", "inside"),
    [
        ({}, None, {**dict.fromkeys(THREAD_VARIABLES, "4"), **SPIN_VARIABLES}),
        ({}, 2, {**dict.fromkeys(THREAD_VARIABLES, "2"), **SPIN_VARIABLES}),
        (
            {"OMP_NUM_THREADS": "3,2", "GOMP_SPINCOUNT": "7"},
            None,
            {"OMP_NUM_THREADS": "3,2", "MKL_NUM_THREADS": "3", "GOMP_SPINCOUNT": "7"},
        ),
        (
            {"OMP_NUM_THREADS": "abc", "OMP_WAIT_POLICY": "PASSIVE"},
            None,
            {**dict.fromkeys(THREAD_VARIABLES, "4"), "OMP_WAIT_POLICY": "PASSIVE"},
        ),
        (
            {"MKL_NUM_THREADS": "3"},
            1,
            {**dict.fromkeys(THREAD_VARIABLES, "1"), **SPIN_VARIABLES},
        ),
    ],
)
def test_what_the_user_has_set_is_kept_and_afterwards_all_is_as_before(
    outside, asked, inside, monkeypatch
):
    for name, value in outside.items():
        monkeypatch.setenv(name, value)
    before, n_before = dict(os.environ), torch.get_num_threads()
    with threads_set(asked) as choice:
        assert {name: os.environ[name] for name in ALL if name in os.environ} == inside
        # PyTorch is loaded here already, and has one thread per physical core at most.
        expected = choice.number if asked else min(n_before, choice.number)
        assert torch.get_num_threads() == expected
    assert dict(os.environ) == before
    assert torch.get_num_threads() == n_before


def test_an_error_leaves_nothing_set_either():
    n_before = torch.get_num_threads()

    def fail(args):
        assert args.threads == ThreadChoice(3, "flag")
        assert torch.get_num_threads() == 3
        raise KeyboardInterrupt

    assert run_command(fail, argparse.Namespace(threads=3)) == 130
    assert torch.get_num_threads() == n_before
    assert not set(ALL) & set(os.environ)


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5"])
def test_a_flag_that_is_no_number_of_threads_is_refused(wrong, capsys):
    parser = argparse.ArgumentParser()
    add_threads(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--threads", wrong])
    assert "--threads" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choice", "stored", "number", "line"),
    [
        (None, None, 2, ""),
        (None, 3, 3, "threads: 3, as this training began"),
        (ThreadChoice(2, "machine", ("why two",)), None, 2, "why two"),
        (ThreadChoice(4, "machine"), 2, 2, ""),  # two physical cores
        (ThreadChoice(5, "flag"), None, 5, ""),
        (ThreadChoice(5, "flag"), 5, 5, ""),
        (ThreadChoice(5, "flag"), 8, 5, "threads: 5 (--threads), where this training began with 8"),
        (ThreadChoice(2, "machine"), 8, 8, "threads: 8, as this training began"),
        (ThreadChoice(2, "environment", ("x",)), 8, 8, "--threads 2 computes with these"),
    ],
)
def test_a_training_goes_on_with_its_threads_unless_the_flag_says_otherwise(
    choice, stored, number, line
):
    found, said = resumed_threads(choice, stored, here=2)
    assert found == number
    assert (line in "".join(said)) if line else not said


def test_imports_load_no_numbers_and_set_nothing():
    """Of all commands: libraries read their threads when they are loaded."""
    code = f"""
import os, sys
before = dict(os.environ)  # with what tests/conftest.py has set
import {", ".join(COMMANDS)}
import desed_task, local
assert dict(os.environ) == before
print([name for name in ("torch", "numpy", "numba", "sklearn") if name in sys.modules])
"""
    done = _python(code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp is the OpenMP of Linux")
def test_the_library_that_computes_sees_what_is_set():
    code = """
import argparse, os
from local.cli.exit_status import run_command
def show(args):
    import torch
    args.threads.begin()
    print("threads", torch.get_num_threads())
    return 0
raise SystemExit(run_command(show, argparse.Namespace(threads=3)))
"""
    done = _python(code, OMP_DISPLAY_ENV="VERBOSE")
    assert done.stdout.endswith("threads 3\n"), done.stderr
    assert f"GOMP_SPINCOUNT = '{SPIN_VARIABLES['GOMP_SPINCOUNT']}'" in done.stderr
    assert "OMP_NUM_THREADS = '3'" in done.stderr


def _python(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if k not in ALL}, **more},
        capture_output=True,
        text=True,
        check=False,
    )
