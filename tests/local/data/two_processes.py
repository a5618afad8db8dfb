"""Trains a toy in Lightning's processes and writes what each saw: CONFIG FOLDER DEVICES.

Started by test_datamodule.py; Lightning starts it again for every further process.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from pathlib import Path

import pytorch_lightning as pl
import torch

from desed_task.batch import SedBatch, Source
from local.classes_dict import VOCABULARY
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.scoring.accumulator import ScoreCollector


class Recorder(pl.LightningModule):
    """Remembers the clips of its batches; collects the targets as if they were scores."""

    def __init__(self, grid) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = {"train": defaultdict(list), "seen": []}
        self.collectors = {
            source: ScoreCollector(VOCABULARY, grid)
            for source in (Source.SYNTHETIC, Source.WEAK, Source.MAESTRO_REAL)
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


def main(config: str, folder: str, devices: str) -> None:
    data = SedDataModule(load_config(config))
    module = Recorder(data.grid)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=int(devices),
        strategy="ddp" if int(devices) > 1 else "auto",
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
    scores = {source.name: c.scores() for source, c in module.collectors.items()}
    collected = {
        name: [found.clip_ids, found.values.sum(1).tolist()] for name, found in scores.items()
    }
    path = Path(folder) / f"{trainer.global_rank}.json"
    path.write_text(json.dumps({**module.seen, "collected": collected}))
    # No process ends before every file is there.
    trainer.strategy.barrier()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Now and then a thread of gloo asks for Python's lock while the interpreter shuts down, which
    # aborts the process ("terminate called without an active exception", once in some 20 runs).
    os._exit(0)
