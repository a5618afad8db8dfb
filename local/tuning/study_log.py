"""What the tuner leaves in its folder as it goes: a log, best.yaml, checkpoints of the best few."""

from __future__ import annotations

import datetime
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from desed_task.atomic_files import write_text_atomic
from local.config import RecipeConfig, check_config
from local.tuning.search_space import Space, apply
from local.tuning.study import AGAIN, REASON, RETRY_OF, Book, home_of
from local.tuning.workers.messages import trial_folder

LOG = "optuna-sed.log"
BEST = "best.yaml"
MEDIAN = "net.median_filter."
CHECKPOINTS, LAST = "checkpoints", "last.ckpt"
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def value_text(trial: FrozenTrial) -> str:
    """The objective; a pruned trial has none, only validations."""
    return f"{trial.value:.6f}" if trial.state == TrialState.COMPLETE else "-"


def values_text(overrides: Mapping[str, Any]) -> str:
    """What was drawn; of median filters the class alone, as there are 27."""
    return "  ".join(f"{k.removeprefix(MEDIAN)}={value}" for k, value in overrides.items())


def line_of(trial: FrozenTrial, best: FrozenTrial | None, overrides: Mapping[str, Any]) -> str:
    """One line about a trial that ended, and the best so far."""
    parts = [f"trial {trial.number}", STATES[trial.state], value_text(trial)]
    parts.append(
        "no best yet" if best is None else f"best {value_text(best)} (trial {best.number})"
    )
    parts.append(values_text(overrides))
    if RETRY_OF in trial.user_attrs:
        parts.append(f"in place of trial {trial.user_attrs[RETRY_OF]}")
    if trial.user_attrs.get(REASON):
        parts.append(" ".join(str(trial.user_attrs[REASON]).split()))
    if trial.user_attrs.get(AGAIN):
        parts.append("will be tried again")
    return "  ".join(parts)


class Diary:
    """Keeps the folder of a study up to date.

    Args:
        log_dir: the folder.
        book: the study.
        space: that is searched.
        config: what trials are made from.
        keep: of so many of the best trials the checkpoint stays; None if its trials have no
            folders, and those that are there are another study's.
        reports: name of the folder of its report.
    """

    def __init__(
        self,
        log_dir: Path,
        book: Book,
        space: Space,
        config: RecipeConfig,
        keep: int | None = None,
        reports: str = "report",
    ) -> None:
        self.log_dir = log_dir
        self.book = book
        self.space = space
        self.config = config
        self.keep = keep
        self.report_folder = log_dir / reports

    def note(self, number: int) -> None:
        """Log a trial that ended, and let best.yaml and checkpoints follow."""
        trial, best = self.book.trials[number], self.book.best
        text = line_of(trial, best, self.space.overrides(trial.params))
        now = datetime.datetime.now().isoformat(" ", "seconds")
        self.log_dir.mkdir(parents=True, exist_ok=True)
        # One write, so that lines of several tuners do not mix.
        with open(self.log_dir / LOG, "a", encoding="utf-8") as log:
            log.write(f"{now}  {text}\n")
        tqdm.write(text)  # above the bar, if there is one
        sys.stdout.flush()
        if best is not None and best.number == number:
            self.write_best(best)
        if self.keep is not None:
            self._tidy(self.keep)

    def write_best(self, best: FrozenTrial) -> Path:
        """Write best.yaml: the configuration with the best trial's values."""
        path = self.log_dir / BEST
        overrides = self.space.overrides(best.params)
        heading = f"trial {best.number} of the study {self.book.study.study_name}: {best.value:.6f}"
        write_config(path, self.config, overrides, heading)
        return path

    def _tidy(self, keep: int) -> None:
        """Remove checkpoints of trials that ended and are not among the best few."""
        trials = self.book.trials
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        done.sort(key=lambda trial: -(trial.value or 0.0))
        kept = {home_of(trial) for trial in done[:keep]}
        # A trial that is tried again goes on from the checkpoints of its first try.
        open_ones = {home_of(trial) for trial in trials if not trial.state.is_finished()}
        for home in {home_of(trial) for trial in trials} - open_ones:
            folder = trial_folder(self.log_dir, home) / CHECKPOINTS
            if home in kept:
                (folder / LAST).unlink(missing_ok=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)  # another tuner may be at it


def write_config(
    path: Path, config: RecipeConfig, overrides: Mapping[str, Any], heading: str
) -> None:
    """Write a whole configuration, with other values at dotted paths, that training takes as it is.

    Args:
        path: of the YAML file.
        config: what is changed.
        overrides: dotted path -> value; they are listed above it.
        heading: a line of comment, of what it is the best.
    """
    changed = check_config(apply(overrides, config.dump()), str(path)).dump()
    comment = [heading, *(f"{key}: {value}" for key, value in overrides.items())]
    text = "".join(f"# {line}\n" for line in comment)
    write_text_atomic(path, text + yaml.safe_dump(changed, sort_keys=False))
