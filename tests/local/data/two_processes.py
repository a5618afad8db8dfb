"""Trains a toy in several processes and writes what each saw: CONFIG FOLDER --devices N."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections import defaultdict
from pathlib import Path

import pytorch_lightning as pl
import torch

from desed_task.batch import SedBatch
from local.cli import arguments
from local.cli.threads import add_threads
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.processes.launch import run_in_processes
from local.processes.strategy import process_arguments
from local.scoring.accumulator import ScoreCollector

ROOT = Path(__file__).resolve().parents[3]


def child_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class Recorder(pl.LightningModule):
    """Remembers the clips of its batches; collects the targets as if they were scores."""

    def __init__(self, grid, task) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = {"train": defaultdict(list), "seen": []}
        self.collectors = {
            corpus.number: ScoreCollector(task.vocabulary, grid)
            for corpus in task.scored_corpora("val")
        }

    def training_step(self, batch: SedBatch, _):
        self.seen["train"][self.current_epoch].append(batch.clip_id)
        return self.layer(batch.waveform.mean(1, keepdim=True)).mean()

    def validation_step(self, batch: SedBatch, _):
        self.seen["seen"] += batch.clip_id
        for name, target, source in zip(
            batch.clip_id, batch.target, batch.source.tolist(), strict=True
        ):
            self.collectors[source].add([name], target[None])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


def train(args: argparse.Namespace) -> int:
    data = SedDataModule(load_config(args.config, args.overrides))
    module = Recorder(data.grid, data.task)
    of_processes, plugins = process_arguments("cpu")
    trainer = pl.Trainer(
        **of_processes,
        accelerator="cpu",
        devices=1,
        plugins=plugins,
        max_epochs=2,
        check_val_every_n_epoch=2,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    scores = {number: c.scores() for number, c in module.collectors.items()}
    collected = {
        name: [found.clip_ids, found.values.sum(1).tolist()] for name, found in scores.items()
    }
    path = Path(args.folder) / f"{trainer.global_rank}.json"
    path.write_text(json.dumps({**module.seen, "collected": collected}))
    return 0


def run(config: Path, folder: Path, n_processes: int, *overrides: str) -> list[dict]:
    """What each process saw."""
    from tests.fork_server import run as run_forked  # of the test, not of this program

    command = [sys.executable, __file__, config, folder, f"--devices={n_processes}"]
    command += [f"--set={one}" for one in overrides]
    done = run_forked(command, text=True, timeout=240, env=child_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    files = [Path(folder) / f"{rank}.json" for rank in range(n_processes)]
    return [json.loads(file.read_text()) for file in files] + [done.stdout]


def rows_together(parts: list[dict], epoch: str) -> list[list[str]]:
    """The rows of all processes in each step, in the order of the whole batch."""
    steps = zip(*(part["train"][epoch] for part in parts), strict=True)
    return [
        [row for rows in itertools.zip_longest(*step) for row in rows if row is not None]
        for step in steps
    ]


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser()
    found.add_argument("config")
    found.add_argument("folder")
    arguments.add_gpus(found)
    arguments.add_overrides(found)
    add_threads(found)
    return found


if __name__ == "__main__":
    sys.exit(run_in_processes(train, parser().parse_args(), __file__))
