"""Read finished runs and check that their results are comparable."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from desed_task.atomic_files import read_text
from desed_task.errors import InputError, command_name
from desed_task.file_names import looked_up_from
from desed_task.mean_teacher import ROLES
from local.checkpoints.resume import LAST_CHECKPOINT, resume_hint
from local.config import SHIPPED, RecipeConfig, load_config
from local.schema.task import ScoreKind
from local.schema.yaml_files import read_yaml
from local.scoring import results
from local.scoring.conditions import (
    CHECKPOINT,
    definition_of,
)
from local.scoring.own.criteria import OWN
from local.scoring.tested import ENSEMBLE
from local.task.corpus import Corpus
from local.task.task import ScoredPart, Task

# Kind of scores -> metrics that every test of it writes and a summary shows first.
MAIN_METRICS: dict[ScoreKind, tuple[str, ...]] = {
    "events": ("psds1/psds_eval", "psds1/sed_scores_eval"),
    "segments": ("segment_mpauc/sed_scores_eval",),
    "tags": (f"tag_f1_macro_thres05/{OWN}", f"tag_map/{OWN}"),
}
RETEST_REMEDY = (
    f"test them on the same data with {command_name('train_pretrained.py')} --test_from_checkpoint"
)


@dataclass(frozen=True)
class FinishedRun:
    """A run folder with a finished test.

    Attributes:
        folder: LOG_DIR/version_N.
        content: content of its results.json.
        config: resolved configuration; None if it cannot be read.
        energy_kwh: stage -> estimated energy, for measured stages.
        clip_ids: name of a test corpus -> scored clips, if the scores exist.
        checkpoint_sha256: SHA-256 of the tested checkpoint; "" if unknown.
        lacking: full names of metrics that other runs of the summary have and its test has not;
            their value is None.
    """

    folder: Path
    content: dict[str, Any]
    config: RecipeConfig | None = None
    energy_kwh: dict[str, float] = field(default_factory=dict)
    clip_ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    checkpoint_sha256: str = ""
    lacking: frozenset[str] = frozenset()

    @cached_property
    def task(self) -> Task:
        """The task of the test; the default one if the configuration cannot be read."""
        return _default_task() if self.config is None else self.config.detection_task

    @property
    def parts(self) -> tuple[ScoredPart, ...]:
        """What was scored."""
        return self.task.scored("test")

    @property
    def main_metrics(self) -> tuple[str, ...]:
        """Metrics that a summary shows first, without stage and network."""
        kinds = {part.kind for part in self.parts}
        return tuple(name for kind, of in MAIN_METRICS.items() if kind in kinds for name in of)

    @property
    def of_default_task(self) -> bool:
        """Whether its results can be held against published ones."""
        default = _default_task()
        return (self.task.name, self.task.classes) == (default.name, default.classes)

    def scores_path(self, role: str, corpus: Corpus) -> Path:
        """Path of a network's scores on a test corpus."""
        return self.folder / "metrics_test" / role / f"scores_{corpus.scores_stem}.npz"

    @property
    def metrics(self) -> dict[str, float | None]:
        """Full name -> value."""
        return self.content["metrics"]

    @property
    def per_class(self) -> dict[str, dict[str, float | None]]:
        """Full name -> class -> value."""
        return self.content["per_class"]

    @property
    def sed_scores_eval(self) -> str:
        """The version of sed_scores_eval by whose definition most metrics are computed."""
        version = definition_of(self.content, "sed_scores_eval")
        if version is None:
            raise KeyError("sed_scores_eval")
        return version

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seed of the training if the configuration has it, or of all whose scores are averaged."""
        if ENSEMBLE in self.content:
            return tuple(sorted(one["seed"] for one in self.content[ENSEMBLE]))
        return () if self.config is None else (self.config.training.seed,)

    @property
    def seed(self) -> str:
        """`seeds` in words."""
        return ", ".join(map(str, self.seeds))

    @property
    def checkpoints_sha256(self) -> frozenset[str]:
        """SHA-256 of each checkpoint whose scores the results are of."""
        members = self.content.get(ENSEMBLE, ())
        own = {str(one[CHECKPOINT]) for one in members} or {self.checkpoint_sha256}
        return frozenset(own - {""})


def open_run(folder: Path) -> FinishedRun:
    """Read a run folder.

    Raises:
        InputError: if it is not a run folder, or its test is unfinished.
    """
    if not folder.is_dir():
        where = looked_up_from(folder)
        raise InputError(f"{folder}: no such folder{where}; give run folders, LOG_DIR/version_N")
    path = folder / results.RESULTS_FILE
    if not path.is_file():
        raise InputError(_unfinished(folder))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        run = FinishedRun(folder, content, _config(folder))
        _ = run.sed_scores_eval, content["clips"].items()
        for name in (f"test/{role}/{needed}" for role in ROLES for needed in run.main_metrics):
            _ = run.metrics[name], run.per_class[name].items()
        for values in (run.metrics, *run.per_class.values()):
            _refuse_other_than_numbers(values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not written by a test ({error!r}); test the run again") from None
    sha256 = str(content.get(CHECKPOINT) or _tested_checkpoint(folder))
    clip_ids = _scored_clips(run)
    return replace(
        run, energy_kwh=energy_of_run(folder), clip_ids=clip_ids, checkpoint_sha256=sha256
    )


def _refuse_other_than_numbers(values: Mapping[str, Any]) -> None:
    """Raise a ValueError for a metric that is neither a finite number nor None."""
    for name, value in values.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and math.isfinite(value)):
            raise ValueError(f"{name} is {value!r}, not a number")


def _unfinished(folder: Path) -> str:
    runs = sorted(path.parent.name for path in folder.glob(f"version_*/{results.RESULTS_FILE}"))
    if runs:
        return f"{folder} is not a run but contains runs; give them: {folder / 'version_*'}"
    last = folder / "checkpoints" / LAST_CHECKPOINT
    remedy = resume_hint(last) if last.is_file() else "train it or leave it out"
    return f"{folder}: no {results.RESULTS_FILE}, the run is unfinished; {remedy}"


def _config(folder: Path) -> RecipeConfig | None:
    try:
        return load_config(str(folder / "config.yaml"))
    except (InputError, OSError):
        return None


@lru_cache(maxsize=1)
def _default_task() -> Task:
    return load_config(SHIPPED / "pretrained.yaml").detection_task


def _tested_checkpoint(folder: Path) -> str:
    """SHA-256 of the checkpoint of the last test, from run.yaml; "" if that does not say it."""
    try:
        records = read_yaml(folder / "run.yaml")
    except (InputError, OSError):
        return ""
    tests = [one for one in records if isinstance(one, dict) and one.get("stage") == "test"]
    found = tests[-1].get("checkpoint") if tests else None
    return str(found.get("sha256", "")) if isinstance(found, dict) else ""


def energy_of_run(folder: Path) -> dict[str, float]:
    """Stage -> kWh, the sum of codecarbon's tables: a resumed training has a line per session.

    Raises:
        InputError: a table cannot be read.
    """
    found = {}
    for stage in results.ENERGY_STAGES:
        path = folder / "codecarbon" / f"emissions_baseline_{stage}.csv"
        if not path.is_file():
            continue
        try:
            lines = csv.DictReader(read_text(path).splitlines())
            parts = [float(line["energy_consumed"]) for line in lines]
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{path}: not a table of codecarbon ({error!r}); restore or delete it"
            ) from None
        found[stage] = sum(parts)
    return found


def _scored_clips(run: FinishedRun) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for part in run.parts:
        corpus = part.corpus
        path = run.scores_path("student", corpus)
        if part.kind == "tags":
            path = path.with_name(f"tags_{corpus.scores_stem}.npz")
        try:
            with np.load(path, allow_pickle=False) as stored:
                found.setdefault(corpus.name, tuple(stored["clip_ids"].tolist()))
        except (OSError, ValueError, KeyError, EOFError):
            continue
    return found
