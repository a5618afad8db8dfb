"""How long the published training takes, from measured parts; and a real one held against it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch

from benchmarks.groups import PUBLISHED_BATCH, Bench
from benchmarks.made_data import N_FEATURES, N_TOKENS
from benchmarks.measuring import Row
from desed_task.dataio.embedding_writer import EmbeddingWriter
from local import run
from local.checks import embeddings_path
from local.config import RecipeConfig, check_config
from local.corpora import NEEDED
from local.devices import CPU, Device
from local.prep.mini_corpus import make_mini_corpus
from local.prep.mini_sets import MiniSizes
from local.run import RunOptions

STEPS_AN_EPOCH = 118  # of the published corpora
WEAK_VAL_CLIPS = 158
# Batches that are left out at the beginning of an epoch: workers start, caches fill.
WARM_UP = 3


class Projection(NamedTuple):
    """Seconds of the published schedule."""

    training_s: float
    validations_s: float
    test_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.training_s + self.validations_s + self.test_s


def project(bench: Bench, rows: Sequence[Row]) -> Projection | None:
    """From the whole step, inference and both wholes of scoring; None if one was not measured.

    A step is taken in proportion to the clips of its batch. A step's data are read by others
    meanwhile, or lie on the device.
    """
    seconds = {row.name: row.median_s for row in rows}
    names = ("whole step", "inference", "validation, both networks", "dev-test, both networks")
    if any(name not in seconds for name in names):
        return None
    step_s, infer_s, val_s, test_s = (seconds[name] for name in names)
    sizes, training = bench.sizes, bench.config.training
    a_clip = infer_s / sizes.n_rows
    n_val = sizes.val_clips + sizes.val_maestro + WEAK_VAL_CLIPS
    n_steps = training.n_epochs * STEPS_AN_EPOCH
    n_validations = training.n_epochs // training.validation_interval
    return Projection(
        n_steps * step_s * sum(PUBLISHED_BATCH) / sizes.n_rows,
        n_validations * (n_val * a_clip + val_s),
        (sizes.test_clips + sizes.test_maestro) * a_clip + test_s,
    )


class StepClock(pl.Callback):
    """Seconds from the end of one batch to that of the next, everything included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, i: int
    ) -> None:
        """Lightning's hook."""
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if i > WARM_UP:
            self.seconds.append(now - self._last)
        self._last = now


def confirm(bench: Bench) -> tuple[float, ...]:
    """Train the published network for two short epochs with Lightning, on the small mini corpus.

    Embeddings are random ones of the published shape, from packed sets.

    Returns:
        Seconds of single steps.
    """
    folder = bench.folder / "confirm"
    basedir = folder / "data"
    make_mini_corpus(basedir, sizes=MiniSizes.small(), progress=False)
    config = _on_mini(bench, folder, basedir)
    _random_embeddings(config)
    clock = StepClock()
    device = CPU if bench.device.type == "cpu" else Device("gpu", [0], "")
    options = RunOptions(str(folder / "run"), device, fast_dev_run=True)
    run.fit(config, options, callbacks=(clock,), test=False)
    return tuple(clock.seconds)


def _on_mini(bench: Bench, folder: Path, basedir: Path) -> RecipeConfig:
    """The published configuration with the mini corpus's folders and this benchmark's batch."""
    tree = bench.config.dump()
    for key, value in tree["data"].items():
        if isinstance(value, str) and "/" in value:
            tree["data"][key] = str(basedir / Path(value).relative_to("../../data"))
    tree["data"]["packed_dir"] = str(folder / "packed")
    tree["pretrained"]["extracted_embeddings_dir"] = str(folder / "embeddings")
    tree["training"].update(
        batch_size=list(bench.sizes.batch),
        batch_size_val=sum(bench.sizes.batch),
        precision=bench.precision,
        enable_progress_bar=False,
        num_workers=0,
    )
    tree["energy"]["enabled"] = False
    return check_config(tree, "the benchmark's configuration")


def _random_embeddings(config: RecipeConfig) -> None:
    rng = np.random.default_rng(0)
    for corpus in NEEDED["fit"]:
        path = embeddings_path(corpus, config)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(getattr(config.data, corpus.folder_key))
        clip_ids = sorted(wav.stem for wav in folder.glob("*.wav"))
        with EmbeddingWriter(
            path, clip_ids, n_features=N_FEATURES, n_tokens=N_TOKENS, identity={}
        ) as writer:
            for clip_id in clip_ids:
                frame = rng.standard_normal((1, N_FEATURES, N_TOKENS), dtype=np.float32)
                writer.put([clip_id], frame, frame.mean(-1))
            writer.finish()
