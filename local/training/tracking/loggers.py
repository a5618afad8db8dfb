"""Loggers of a run: TensorBoard, and Weights & Biases and MLflow through Lightning's own.

Nothing is sent anywhere unless the configuration or the environment asks for it: W&B writes into
the run folder and MLflow into a file in the log folder.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from desed_task.atomic_files import write_json_atomic
from desed_task.errors import InputError
from local.cli.redaction import redact
from local.config import RecipeConfig

EXTRAS: Final = ("wandb", "mlflow")
# In the run folder: the names under which a resumed run is continued.
RUNS_FILE: Final = "loggers.json"
DATABASE: Final = "mlflow.db"
# What the packages would send without being asked.
_SILENT: Final = {
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_LONGEST_VALUE: Final = 250  # of MLflow, in Lightning's logger
_NOT_IN_PROJECTS: Final = re.compile(r"[/\\#?%:]")


class TensorBoardCurves(TensorBoardLogger):
    """Curves without `epoch`, which Lightning adds to each call; hparams.yaml, but no hp_metric.

    TensorBoard's table of hyperparameters comes from `local.training.tracking.hparams`.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log all but the number of the epoch."""
        super().log_metrics({name: v for name, v in metrics.items() if name != "epoch"}, step)


class MLflowRun(MLFlowLogger):
    """A run of MLflow whose files lie in the run folder, wherever its metrics go."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._folder = folder

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Log values; those of a resumed run that have changed become tags.

        MLflow refuses to change a value once it is logged.
        """
        known = self.experiment.get_run(self.run_id).data.params
        super().log_hyperparams({name: v for name, v in params.items() if name not in known})
        for name, value in params.items():
            text = str(value)[:_LONGEST_VALUE]
            if known.get(name, text) != text:
                self.experiment.set_tag(self.run_id, name, text)

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self._folder)


def check_loggers(config: RecipeConfig) -> None:
    """Reject loggers whose packages are missing, before anything is read.

    Raises:
        InputError: naming the extra.
    """
    for name in EXTRAS:
        if name in config.logging.loggers and importlib.util.find_spec(name) is None:
            raise InputError(
                f"logging.loggers: {name} is not installed; install it with "
                f"pip install -e '.[{name}]', or leave it out"
            )


def run_loggers(config: RecipeConfig, folder: Path) -> list[Logger]:
    """The loggers of a run, which has the same name in all of them.

    Args:
        config: names the loggers and their arguments.
        folder: the run folder, LOG_DIR/NAME. LOG_DIR is the project of W&B and the experiment of
            MLflow.

    Raises:
        InputError: for arguments that a logger does not take, or a server that does not answer.
    """
    make = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
    return [make[name](config, folder) for name in dict.fromkeys(config.logging.loggers)]


@contextlib.contextmanager
def closing(loggers: list[Logger]) -> Iterator[None]:
    """Close the loggers after the block: a process may run several trainings."""
    try:
        yield
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()


def _tensorboard(config: RecipeConfig, folder: Path) -> TensorBoardCurves:
    log_dir = folder.parent
    return TensorBoardCurves(
        str(log_dir.parent), log_dir.name, version=folder.name, default_hp_metric=False
    )


def _wandb(config: RecipeConfig, folder: Path) -> WandbLogger:
    _be_silent()
    given = dict(config.logging.wandb)
    # Its record of the machine would contain the command line.
    quiet = {
        "console": "off",
        "quiet": True,
        "x_disable_meta": True,
        "x_disable_machine_info": True,
    }
    settings = {**quiet, **given.pop("settings", {})}
    known = _known(folder)
    run_id = str(known.get("wandb") or uuid.uuid4().hex[:8])
    arguments = {
        "project": _NOT_IN_PROJECTS.sub("-", folder.absolute().parent.name),
        "name": folder.name,
        "save_dir": str(folder),
        "id": run_id,
        "offline": "WANDB_MODE" not in os.environ,
        **given,
    }
    with _telling("wandb"):
        logger = WandbLogger(**arguments, settings=settings)
        # Now, so that what is wrong is told before training.
        logger.experiment  # noqa: B018
    _remember(folder, {**known, "wandb": arguments["id"]})
    return logger


def _mlflow(config: RecipeConfig, folder: Path) -> MLflowRun:
    _be_silent()
    log_dir = folder.absolute().parent
    asked = os.environ.get("MLFLOW_TRACKING_URI")
    local = {
        "tracking_uri": f"sqlite:///{log_dir / DATABASE}",
        "artifact_location": (log_dir / "mlruns").as_uri(),
    }
    arguments = {
        "experiment_name": log_dir.name,
        "run_name": folder.name,
        **({"tracking_uri": asked} if asked else local),
        **config.logging.mlflow,
    }
    known = _known(folder)
    place = redact(str(arguments["tracking_uri"]))
    stored = known.get("mlflow")
    if isinstance(stored, dict) and stored.get("tracking_uri") == place:
        try:
            logger = MLflowRun(folder, **{"run_id": stored["run_id"], **arguments})
            logger.experiment.update_run(logger.run_id, status="RUNNING")
        except Exception as error:  # MLflow's own, or of its database
            print(f"logging.mlflow: {folder} begins a new run there: {_reason(error)}")
        else:
            return logger
    with _telling("mlflow"):
        logger = MLflowRun(folder, **arguments)
        run_id = logger.run_id
    _remember(folder, {**known, "mlflow": {"run_id": run_id, "tracking_uri": place}})
    return logger


def _be_silent() -> None:
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    """Turn whatever a logger raises into a message."""
    try:
        yield
    except Exception as error:  # each package has errors of its own
        raise InputError(
            f"logging.{name}: {_reason(error)}; correct its arguments, or leave it out of "
            "logging.loggers"
        ) from None


def _reason(error: Exception) -> str:
    return redact(" ".join(str(error).split()) or type(error).__name__)


def _known(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / RUNS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(folder: Path, known: Mapping[str, Any]) -> None:
    write_json_atomic(folder / RUNS_FILE, dict(known))
