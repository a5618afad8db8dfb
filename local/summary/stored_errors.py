"""Write the error report of a run that was tested before, from its stored scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from desed_task.audio.clip_files import clip_files
from desed_task.errors import InputError
from local.config import RecipeConfig
from local.error_report.findings import find_errors
from local.error_report.write import write_error_report
from local.scoring.results import INDEX_FILE, error_report_folder
from local.scoring.score_files import SCORE_KINDS, read_scores
from local.summary.resampled_metrics import check_tested_truth, tested_truth
from local.summary.run_folders import FinishedRun, open_run


def report_stored_errors(
    folders: Sequence[str], config: RecipeConfig | None, role: str
) -> list[Path]:
    """Write the error report of each run into its folder, which replaces an earlier one.

    Args:
        folders: run folders.
        config: gives the paths of table and audio, if they differ from the runs' configurations.
        role: the network, "student" or "teacher".

    Returns:
        The page of each report.

    Raises:
        InputError: scores, tables or configuration of a run cannot be read, the tables are not
            those of its test, or its folder cannot be written.
    """
    pages = []
    for folder in folders:
        run = open_run(Path(folder))
        try:
            pages.append(_report(run, config, role))
        except OSError as error:
            raise InputError(f"{folder}: no error report can be written: {error}") from None
    return pages


def _report(run: FinishedRun, config: RecipeConfig | None, role: str) -> Path:
    own, given = run.config, config or run.config
    if own is None or given is None:
        raise InputError(
            f"{run.folder}: its config.yaml is missing or cannot be read, so thresholds are not "
            "known; restore it, or test the run again"
        )
    part = run.task.part("test", "events")
    if part is None:
        raise InputError(
            f"{run.folder}: no events were scored in its test, so there are no errors of events"
        )
    scores = read_scores(run.scores_path(role, part.corpus), SCORE_KINDS[1])
    truth = tested_truth(part, [run], config)
    check_tested_truth(truth, run)
    errors = find_errors(scores, truth, truth.part.corpus.known, own.predict.threshold, role=role)
    files = clip_files(truth.part.corpus.folder)
    checkpoint = str(run.content.get("checkpoint", "unknown"))
    write_error_report(run.folder, errors, files, own, checkpoint=checkpoint)
    return error_report_folder(run.folder, role) / INDEX_FILE
