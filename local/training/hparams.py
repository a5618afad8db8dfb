"""Hyperparameters of runs for TensorBoard's HPARAMS, and for other loggers.

TensorBoard takes the columns of its table from all runs that it finds, unless one of them declares
them, and shows every scalar of a run as a metric. So each run declares none, and has a folder for
the table, RUN/final, which contains its values and final metrics only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytorch_lightning as pl
import yaml
from pytorch_lightning.callbacks import Callback
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from desed_task.mean_teacher import ROLES
from local.checkpoints.changes import result_keys
from local.config import RecipeConfig, check_config
from local.training.loggers import TensorBoardCurves

FINAL: Final = "final"
MONITOR: Final = "val/obj_metric"
FINAL_METRICS: Final = tuple(
    f"test/{role}/{name}"
    for role in ROLES
    for name in ("psds1/sed_scores_eval", "psds1/psds_eval", "segment_mpauc/sed_scores_eval")
)
SEED: Final = "training.seed"
SUPPLIED: Final = Path(__file__).resolve().parents[2] / "confs"
# Configurations whose values need no column, in the order in which one is taken if several are as
# near, and the column that says which one it is.
_BASES: Final = ("pretrained.yaml", "mini.yaml")
_BASE: Final = "configuration"


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
        self._metrics |= {name: float(found[name]) for name in FINAL_METRICS if name in found}
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        run = trainer.log_dir  # collective call: every process must reach it
        shown = any(isinstance(logger, TensorBoardCurves) for logger in trainer.loggers)
        if self.table and shown and trainer.is_global_zero and run:
            write_row(Path(run), changed_values(self.config), self._metrics, trainer.global_step)


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

    Only keys that results depend on count. The seed is always among them, and so is the name of the
    configuration if it is not the published one.
    """
    here = result_values(config)
    differing: dict[str, dict[str, Any]] = {
        name: {key: value for key, value in here.items() if base.get(key) != value}
        for name, base in _bases()
    }
    if not differing:
        return here
    name = min(differing, key=lambda one: len(differing[one]))
    named = {} if name == _BASES[0] else {_BASE: name}
    return {**named, SEED: here[SEED], **differing[name]}


def result_values(config: RecipeConfig) -> dict[str, Any]:
    """Dotted key -> value of all keys that results depend on: no paths, no machine."""
    tree = config.dump()
    pairs = (key.split(".", 1) for key in result_keys())
    found = {f"{section}.{key}": tree[section][key] for section, key in pairs}
    return {key: value for key, value in found.items() if not key.startswith("initial_weights")} | (
        _initial(config)
    )


def _initial(config: RecipeConfig) -> dict[str, str]:
    there = config.initial_weights
    if not there.checkpoint_sha256:
        return {}
    return {"init_from_checkpoint": f"{Path(there.checkpoint).name} {there.checkpoint_sha256[:12]}"}


def _bases() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in _BASES:
        path = SUPPLIED / name
        if path.is_file():
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
            yield name, result_values(check_config(tree, str(path)))


def _plain(value: Any) -> Any:
    """A value for TensorBoard's table."""
    return value if isinstance(value, bool | int | float | str) else str(value)
