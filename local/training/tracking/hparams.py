"""Hyperparameters of runs for TensorBoard's HPARAMS, and for other loggers.

TensorBoard takes the columns of its table from all runs that it finds, unless one of them declares
them, and shows every scalar of a run as a metric. So each run declares none, and has a folder for
the table, RUN/final, which contains its values and final metrics only. All runs of a log folder
have the values that any of them changed, so that cells are filled and columns that differ come
first.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from desed_task.atomic_files import write_json_atomic
from desed_task.mean_teacher import ROLES
from local.checkpoints.changes import result_keys
from local.checkpoints.run_claims import holder_of
from local.config import SHIPPED, RecipeConfig, check_config
from local.schema.yaml_files import read_yaml
from local.stores.size import with_published_size
from local.training.tracking.loggers import TensorBoardCurves

FINAL: Final = "final"
MONITOR: Final = "val/obj_metric"
FINAL_METRICS: Final = tuple(
    f"test/{role}/{name}"
    for role in ROLES
    for name in ("psds1/sed_scores_eval", "segment_mpauc/sed_scores_eval")
)
# Of tasks whose tests score tags.
TAG_METRICS: Final = tuple(f"test/{role}/tag_map/desed_task" for role in ROLES)
SEED: Final = "training.seed"
INITIAL: Final = "initial_weights"
ROW_FILE: Final = "row.json"
# Configurations whose values need no column; the first of those that are equally near is taken.
_BASES: Final = ("pretrained.yaml", "mini.yaml")


class RunHyperparameters(Callback):
    """Gives the loggers of a run its hyperparameters, and TensorBoard's table its final metrics.

    Args:
        config: the configuration.
        table: whether to write a row of TensorBoard's table; trials of the tuner write their own.
    """

    def __init__(self, config: RecipeConfig, *, table: bool = True) -> None:
        self.config = config
        self.table = table
        self._metrics: dict[str, float] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give each logger the hyperparameters that it can show."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardCurves):
                logger.log_hyperparams(self.config.dump_public())
            else:
                logger.log_hyperparams(result_values(self.config))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a row without metrics."""
        self._write(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the best validation."""
        saver = trainer.checkpoint_callback
        best = None if saver is None else saver.best_model_score
        if best is not None:
            self._metrics[MONITOR] = float(best)
            self._write(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the metrics of the test."""
        found = trainer.callback_metrics
        final = {n: float(found[n]) for n in (*FINAL_METRICS, *TAG_METRICS) if n in found}
        # An area may not be defined, which JSON has no number for.
        self._metrics |= {name: value for name, value in final.items() if math.isfinite(value)}
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        run = trainer.log_dir  # collective call: every process must reach it
        shown = any(isinstance(logger, TensorBoardCurves) for logger in trainer.loggers)
        if self.table and shown and trainer.is_global_zero and run:
            row = Row(
                result_values(self.config),
                list(changed_values(self.config)),
                self._metrics,
                trainer.global_step,
            )
            write_row_among_others(Path(run), row)


class Row(NamedTuple):
    """What a run has for the table.

    Attributes:
        values: dotted key -> value of all keys that results depend on.
        changed: those that it changed.
        metrics: name -> value.
        step: at which SCALARS shows the metrics.
    """

    values: dict[str, Any]
    changed: list[str]
    metrics: dict[str, float]
    step: int


def write_row_among_others(run: Path, row: Row) -> None:
    """Write the row of a run, and add the keys that it changed to the rows of finished runs."""
    write_json_atomic(run / FINAL / ROW_FILE, row._asdict())
    rows = {run: row}
    for path in run.parent.glob(f"*/{FINAL}/{ROW_FILE}"):
        folder = path.parents[1]
        # A process that writes a run writes its row, too.
        if folder != run and not holder_of(folder) and (other := _read_row(path)) is not None:
            rows[folder] = other
    keys = list(dict.fromkeys(key for one in rows.values() for key in one.changed))
    for folder, one in rows.items():
        values = {key: one.values[key] for key in keys if key in one.values}
        if folder == run or set(one.changed) != set(values):
            with contextlib.nullcontext() if folder == run else contextlib.suppress(OSError):
                write_row(folder, values, one.metrics, one.step)


def _read_row(path: Path) -> Row | None:
    try:
        return Row(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_row(
    run: Path, values: Mapping[str, Any], metrics: Mapping[str, float], step: int = 0
) -> None:
    """Write the row of a run in TensorBoard's HPARAMS, in place of an earlier one.

    Args:
        run: the run folder.
        values: dotted key -> value.
        metrics: name -> value.
        step: at which SCALARS shows the metrics.
    """
    folder = run / FINAL
    earlier = list(folder.glob("events.out.tfevents.*"))
    plain = {name: _plain(value) for name, value in values.items()}
    _, begin, end = hparams(plain, {})
    with SummaryWriter(str(folder)) as writer:
        writer.file_writer.add_summary(begin)
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        if metrics:
            writer.file_writer.add_summary(end)
    for path in earlier:
        path.unlink(missing_ok=True)


def changed_values(config: RecipeConfig) -> dict[str, Any]:
    """Dotted key -> value of what differs from the supplied configuration that is nearest.

    Only keys that results depend on count. The seed is always among them, as TensorBoard shows no
    table without a column.
    """
    here = result_values(config)
    differing = [
        {key: value for key, value in here.items() if base[key] != value}
        for base in _bases(SHIPPED)
    ]
    if not differing:
        return here
    return {SEED: here[SEED], **min(differing, key=len)}


def result_values(config: RecipeConfig) -> dict[str, Any]:
    """Key -> value of all that results depend on: no paths, no machine."""
    # Runs record the number of features, supplied files leave it open.
    tree = with_published_size(config).dump()
    pairs = (key.split(".", 1) for key in result_keys() if not key.startswith("initial_weights"))
    found = {f"{section}.{key}": tree[section][key] for section, key in pairs}
    return {**found, INITIAL: initial_weights_name(config)}


def initial_weights_name(config: RecipeConfig) -> str:
    """Name and SHA-256 of the file that a training started from; random without one."""
    there = config.initial_weights
    if not there.checkpoint_sha256:
        return "random"
    return f"{Path(there.checkpoint).name} {there.checkpoint_sha256[:12]}"


@lru_cache(maxsize=1)
def _bases(folder: Path) -> tuple[dict[str, Any], ...]:
    files = [folder / name for name in _BASES if (folder / name).is_file()]
    return tuple(result_values(check_config(read_yaml(path), str(path))) for path in files)


def _plain(value: Any) -> Any:
    """A value for TensorBoard's table."""
    return value if isinstance(value, bool | int | float | str) else str(value)
