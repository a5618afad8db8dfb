"""Keep a study's log, best.yaml and the checkpoints of its best trials up to date."""

from __future__ import annotations

import datetime
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial, TrialState

from desed_task.atomic_files import write_text_atomic
from desed_task.parallel import write_line
from desed_task.postprocess.decoders import MEDIAN
from local.checkpoints.resume import LAST_CHECKPOINT
from local.config import RecipeConfig, check_config
from local.tuning.search_space import Space, replace_values
from local.tuning.study import REASON, RETRY_OF, TRIED_AGAIN, SharedStudy, folder_number
from local.tuning.workers.messages import trial_folder

LOG_FILE = "optuna-sed.log"
BEST_FILE = "best.yaml"
REPORT_FOLDER = "report"
# Beside that of stage one, which may be in the same folder.
MEDIAN_REPORT_FOLDER = "report_medians"
SCORES_FOLDER = "scores"
_REPORTS_OF = {MEDIAN: MEDIAN_REPORT_FOLDER}
MEDIAN_PREFIX = "net.median_filter."
DECODER_PREFIX = "decoder."
CHECKPOINT_FOLDER = "checkpoints"
_NOTED = re.compile(r"^\S+ \S+  trial (\d+)  ", re.MULTILINE)
STATE_NAMES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def is_study_log(path: Path) -> bool:
    """Whether a file is the log of a study; an empty one is, too."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    return text is not None and (not text or _NOTED.match(text) is not None)


def report_folder_of(decoder: str) -> str:
    """Name of the folder of a decoder's report in stage two."""
    return _REPORTS_OF.get(decoder, f"{REPORT_FOLDER}_{decoder}")


def format_value(trial: FrozenTrial) -> str:
    """Format the objective; a pruned trial has none."""
    return f"{trial.value:.6f}" if trial.state == TrialState.COMPLETE else "-"


def format_values(overrides: Mapping[str, Any]) -> str:
    """Format the sampled values; median filters by their class alone, as there are 27."""
    return "  ".join(
        f"{k.removeprefix(MEDIAN_PREFIX).removeprefix(DECODER_PREFIX)}={value}"
        for k, value in overrides.items()
    )


def format_trial(trial: FrozenTrial, best: FrozenTrial | None, overrides: Mapping[str, Any]) -> str:
    """Format one line about an ended trial and the best so far."""
    parts = [f"trial {trial.number}", STATE_NAMES[trial.state], format_value(trial)]
    parts.append(
        "no best yet" if best is None else f"best {format_value(best)} (trial {best.number})"
    )
    parts.append(format_values(overrides))
    if RETRY_OF in trial.user_attrs:
        parts.append(f"retry of trial {trial.user_attrs[RETRY_OF]}")
    if trial.user_attrs.get(REASON):
        parts.append(" ".join(str(trial.user_attrs[REASON]).split()))
    if trial.user_attrs.get(TRIED_AGAIN):
        parts.append("will be retried")
    return "  ".join(parts)


class StudyLog:
    """Keep the folder of a study up to date.

    Args:
        log_dir: the folder.
        study: the study.
        space: the search space.
        config: configuration that the trials modify.
        keep: number of best trials whose checkpoints are kept; None if trials have no folders, so
            that existing ones belong to another study.
        reports: name of the report's folder.
    """

    def __init__(
        self,
        log_dir: Path,
        study: SharedStudy,
        space: Space,
        config: RecipeConfig,
        keep: int | None = None,
        reports: str = REPORT_FOLDER,
    ) -> None:
        self.log_dir = log_dir
        self.shared_study = study
        self.space = space
        self.config = config
        self.keep = keep
        self.report_folder = log_dir / reports

    def note(self, number: int) -> None:
        """Log an ended trial and update best.yaml and the checkpoints."""
        trial, best = self.shared_study.trials[number], self.shared_study.best
        text = format_trial(trial, best, self.space.overrides(trial.params))
        now = datetime.datetime.now().isoformat(" ", "seconds")
        self.log_dir.mkdir(parents=True, exist_ok=True)
        # A single write, so that lines of several tuners do not mix.
        with open(self.log_dir / LOG_FILE, "a", encoding="utf-8") as log:
            log.write(f"{now}  {text}\n")
        write_line(text, sys.stdout)  # above the progress bar, if there is one
        sys.stdout.flush()
        if best is not None and best.number == number:
            self.write_best(best)
            # Another tuner of this folder may have written a better one in the meantime.
            while (newest := self.shared_study.best) is not None and newest.number != best.number:
                best = newest
                self.write_best(best)
        if self.keep is not None:
            self._tidy(self.keep)

    def note_missed(self) -> None:
        """Log trials that ended as their tuner was killed, and remove what it did not remove."""
        path = self.log_dir / LOG_FILE
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        logged = {int(number) for number in _NOTED.findall(text)}
        for trial in self.shared_study.trials:
            if trial.state.is_finished() and trial.number not in logged:
                self.note(trial.number)
        if self.keep is not None:
            self._tidy(self.keep)

    def config_of(self, trial: FrozenTrial) -> RecipeConfig:
        """The configuration of a trial."""
        tree = replace_values(self.space.overrides(trial.params), self.config.dump())
        return check_config(tree, f"trial {trial.number}")

    def write_best(self, best: FrozenTrial) -> Path:
        """Write best.yaml: the configuration with the best trial's values."""
        path = self.log_dir / BEST_FILE
        overrides = self.space.overrides(best.params)
        name = self.shared_study.study.study_name
        heading = f"trial {best.number} of the study {name}: {best.value:.6f}"
        write_config(path, self.config, overrides, heading)
        return path

    def _tidy(self, keep: int) -> None:
        """Remove checkpoints of ended trials that are not among the best few."""
        trials = self.shared_study.trials
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        done.sort(key=lambda trial: -(trial.value or 0.0))
        kept = {folder_number(trial) for trial in done[:keep]}
        # A retry resumes from the checkpoints of the first attempt.
        open_ones = {folder_number(trial) for trial in trials if not trial.state.is_finished()}
        for home in {folder_number(trial) for trial in trials} - open_ones:
            folder = trial_folder(self.log_dir, home) / CHECKPOINT_FOLDER
            if home in kept:
                (folder / LAST_CHECKPOINT).unlink(missing_ok=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)  # another tuner may be removing it


def write_config(
    path: Path,
    config: RecipeConfig,
    overrides: Mapping[str, Any],
    heading: str,
    untold: Mapping[str, Any] | None = None,
) -> None:
    """Write a complete configuration for training, with other values at dotted paths.

    Args:
        path: path of the YAML file.
        config: the configuration to modify.
        overrides: dotted path -> value; a comment lists them.
        heading: first line of the comment, which names the study.
        untold: further values, which the comment does not list.
    """
    values = {**overrides, **(untold or {})}
    changed = check_config(replace_values(values, config.dump()), str(path)).dump_public()
    comment = [heading, *(f"{key}: {value}" for key, value in overrides.items())]
    text = "".join(f"# {line}\n" for line in comment)
    write_text_atomic(path, text + yaml.safe_dump(changed, sort_keys=False))
