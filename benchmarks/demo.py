"""Time the steps of `make demo`, each as the command that it is.

Only if rows are chosen (`--only demo`), as they take minutes. The corpus and the network are those
of confs/mini.yaml, whatever --conf_file says.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.bench import Bench, Row, Work, row_of
from benchmarks.timing import Timing

NAME = "demo"
ROOT = Path(__file__).resolve().parents[1]
# Steps in their order, each with the folder below the bench's that it fills.
STEPS = {"corpus": "demo/data", "extraction": "demo/embeddings", "training": "demo/exp"}
# Stands for a script, with the corpus of the tests.
_SMALL = """
import runpy, sys
from local.prep.mini_corpus import make
make.MiniSizes = make.MiniSizes.small
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_EPOCH = re.compile(r"^epoch (\d+)/\d+: \d+ batches in ([\d.]+) s", re.MULTILINE)


def run(bench: Bench) -> None:
    """Add a row of each step; those before it are run, too, if their files are missing."""
    rows = [f"{NAME}/{step}" for step in (*STEPS, "epoch", "test")]
    wanted = [name for name in rows if bench.options.only and bench.wants(name)]
    if not wanted:
        return
    with bench.skipping(NAME):
        conf = _configuration(bench)
        for step, folder in STEPS.items():
            place = bench.folder / folder
            if not place.exists():
                printed = _time(bench, step, _command(bench, step, conf), place)
                if step == "training":
                    _keep_epoch(bench, printed)
        if bench.wants(f"{NAME}/test"):
            _time(bench, "test", _command(bench, "test", conf), bench.folder / "demo/tested")


def _configuration(bench: Bench) -> Path:
    """confs/mini.yaml for a folder of the bench, with its number of epochs."""
    text = (ROOT / "confs" / "mini.yaml").read_text(encoding="utf-8")
    for name in ("data", "embeddings"):
        text = text.replace(f"./{name}/mini", str(bench.folder / "demo" / name))
    tree: dict[str, Any] = yaml.safe_load(text)
    n_epochs = bench.options.n_epochs
    tree["training"].update(
        n_epochs=n_epochs, validation_interval=n_epochs, n_epochs_warmup=1, epoch_decay=1
    )
    if bench.options.quick:
        tree["training"].update(batch_size=[2, 1, 1, 2, 2], batch_size_val=8)
    path = bench.folder / "demo" / "mini.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def _command(bench: Bench, step: str, conf: Path) -> list[str]:
    place = bench.folder / "demo"
    train = ["train_pretrained.py", "--conf_file", str(conf), "--gpus", "0", "--log_dir"]
    checkpoint = str(place / "exp" / "version_0" / "checkpoints" / "last.ckpt")
    steps = {
        "corpus": ["generate_dcase_task4_2024.py", "--mini", "--basedir", str(place / "data")],
        "extraction": ["extract_embeddings.py", "--conf_file", str(conf)],
        "training": [*train, str(place / "exp")],
        "test": [*train, str(place / "tested"), "--test_from_checkpoint", checkpoint],
    }
    launcher = ["-c", _SMALL] if bench.options.quick else []
    return [sys.executable, *launcher, *steps[step]]


def _time(bench: Bench, step: str, command: Sequence[str], place: Path) -> str:
    """Run a command once and record its time and the bytes of the files that it wrote.

    Returns:
        What it printed.
    """
    before, start = bench.machine.sample(), bench.watch.now()
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
        },
    )
    taken_s = bench.watch.now() - start
    if done.returncode:
        raise RuntimeError(f"{NAME}/{step} ended with status {done.returncode}: {done.stderr}")
    files = [path for path in place.rglob("*") if path.is_file()]
    work = Work(clips=0, n_bytes=sum(path.stat().st_size for path in files))
    timing = Timing.of([taken_s])
    row = row_of(f"{NAME}/{step}", work, timing, (before, bench.machine.sample()))
    if bench.wants(row.name):
        bench.keep(row)
    return done.stdout


def _keep_epoch(bench: Bench, printed: str) -> None:
    """Record the time of an epoch as printed; the first and the last do more than training."""
    name = f"{NAME}/epoch"
    if not bench.wants(name):
        return
    if bench.watch.clock != "wall":
        bench.keep(Row(name, skipped="the command prints wall times only"))
        return
    times_s = [float(seconds) for _, seconds in _EPOCH.findall(printed)]
    inner = times_s[1:-1] or times_s
    bench.keep(Row(name, statistics.median(inner), n_calls=len(inner)))
