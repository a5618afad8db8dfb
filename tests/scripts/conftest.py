"""Shared by the tests of scripts: one seed trained twice, once a session."""

from __future__ import annotations

from pathlib import Path

import pytest


def run_folder(log_dir: Path) -> Path:
    """The only run in a log folder."""
    (folder,) = log_dir.glob("version_*")
    return folder


@pytest.fixture(scope="session")
def trained(extracted, run_script, tmp_path_factory):
    """Two epochs, twice with one seed: (run folder, what was printed), (the second run folder)."""
    folder = tmp_path_factory.mktemp("runs")
    done = [
        run_script(
            "train_pretrained.py", "--conf_file", extracted, "--log_dir", folder / name, cwd=folder
        )
        for name in ("one", "two")
    ]
    for run_done in done:
        assert run_done.returncode == 0, run_done.stdout + run_done.stderr
    return run_folder(folder / "one"), done[0], run_folder(folder / "two")
