"""Shared by the tests of scripts: one seed trained twice, once a session."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.undrawn import FEW_ROLLS, VARIABLE


def run_folder(log_dir: Path) -> Path:
    """The only run in a log folder."""
    (folder,) = log_dir.glob("version_*")
    return folder


@pytest.fixture(scope="session")
def trained(extracted, run_script, made_once):
    """Two epochs, twice with one seed: (run folder, what was printed), (the second run folder)."""

    def make(folder: Path) -> None:
        # The first as a user does; the second has the modules of its parent, other hashes and
        # fewer event rolls.
        for name, forked in (("one", False), ("two", True)):
            with pytest.MonkeyPatch.context() as monkeypatch:
                if forked:
                    monkeypatch.setenv(VARIABLE, FEW_ROLLS)
                done = run_script(
                    *("train_pretrained.py", "--conf_file", extracted, "--log_dir", folder / name),
                    cwd=folder,
                    forked=forked,
                )
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / f"{name}.out").write_text(done.stdout)
            (folder / f"{name}.err").write_text(done.stderr)

    folder = made_once("trained", make)
    told = [(folder / f"one.{kind}").read_text() for kind in ("out", "err")]
    done = subprocess.CompletedProcess(("train_pretrained.py",), 0, *told)
    return run_folder(folder / "one"), done, run_folder(folder / "two")
