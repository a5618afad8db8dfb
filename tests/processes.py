"""The tests in several processes: `pytest -n auto`, which is what `make test` does.

Files are given out whole, because their tests share fixtures, and those that take long first, so
that the processes end together. What costs much and is wanted by many files is made by the first
process that asks for it; see `made_once`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock  # comes with torch

from desed_task.parallel import available_cores

# Each takes up to 2 GB, and of more some would wait for the longest file of another.
MOST_PROCESSES = 4
# The files that take longest, in seconds of processor time. An outdated line only costs balance.
# One that `trained` is made for comes first, so that it exists before another file asks for it, and
# then one that shares nothing with it, as it would wait.
SECONDS = {
    "scripts/test_train.py": 90,
    "tasks/test_supplied_tasks.py": 75,
    "scripts/test_processes.py": 70,
    "desed_task/inference/test_onnx_export.py": 65,
    "benchmarks/test_benchmarks.py": 60,
    "scripts/test_predict_archives.py": 55,
    "scripts/test_kills.py": 50,
    "scripts/test_extract_processes.py": 45,
    "test_readme.py": 45,
    "local/summary/test_summary.py": 45,
    "local/test_training_loop.py": 40,
    "test_quiet_imports.py": 40,
    "local/tuning/test_postgresql.py": 38,
    "local/predict/test_predict_all.py": 36,
    "scripts/test_continue.py": 35,
    "local/processes/test_shared_steps.py": 35,
    "local/doctor/test_check.py": 33,
    "local/test_published_training.py": 32,
    "scripts/test_summarize_runs.py": 30,
    "desed_task/encoders/test_parity.py": 30,
    "scripts/test_published_checkpoint.py": 28,
    "local/data/test_packed_corpora.py": 28,
    "local/predict/pages/test_in_browser.py": 27,
    "local/predict/test_export_onnx.py": 27,
    "local/tuning/decoders/test_stage.py": 25,
    "scripts/test_encoders.py": 25,
    "scripts/test_generate.py": 25,
    "local/summary/own/test_completed.py": 25,
    "local/tuning/test_training_stage.py": 23,
    "scripts/test_predict.py": 22,
    "scripts/test_optuna.py": 20,
    "local/test_changed_data.py": 20,
    "local/test_own_detector.py": 20,
    "desed_task/audioset/test_parity.py": 18,
    "local/tuning/test_kills.py": 18,
    "local/tuning/decoders/test_honesty.py": 18,
    "local/prep/youtube/test_audioset.py": 17,
    "desed_task/audio/test_odd_audio.py": 16,
    "test_notebook.py": 15,
    "scripts/test_fetch.py": 14,
    "scripts/test_export.py": 14,
    "scripts/test_start.py": 14,
    "test_container.py": 14,
    "test_layering.py": 14,
    "local/extraction/test_parts.py": 13,
    "local/tuning/test_median_sweep.py": 12,
    "local/training/test_feature_statistics.py": 12,
    "scripts/test_extract_embeddings.py": 12,
    "local/data/test_loaded_corpus.py": 11,
    "local/prep/download/test_unpack.py": 11,
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """As many as there are cores for this process; xdist itself would ask for the machine's."""
    return min(available_cores(), MOST_PROCESSES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole files, in the order of their tests below."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those that take longest first, where there are several processes."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: -SECONDS.get(item.location[0].removeprefix("tests/"), 0))


@pytest.fixture(scope="session")
def made_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], None]], Path]:
    """Name and function -> the folder that the function filled, once for all processes.

    The first process that asks makes it, others wait. Tests only read it, as other processes do.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all processes of this session

    def find(name: str, make: Callable[[Path], None]) -> Path:
        folder, made = base / name, base / f"{name}.made"
        with FileLock(base / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return find
