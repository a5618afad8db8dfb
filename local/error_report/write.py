"""Write the error report of a test: index.html, pictures, tables and pages of the worst clips."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

from desed_task.atomic_files import atomic_folder, write_json_atomic, write_text_atomic
from desed_task.errors import InputError
from desed_task.evaluation.boxes import Decoded
from desed_task.file_names import printable
from desed_task.mean_teacher import ROLES
from local.config import RecipeConfig
from local.data.corpus_checks import examples
from local.data.truth import Truth
from local.error_report.clip_pages import CLIPS_FOLDER, PAGE_SUFFIX, write_clip_pages
from local.error_report.clip_rolls import plot_worst_clips
from local.error_report.findings import FoundErrors, find_errors
from local.error_report.index_page import CLIPS_PICTURE, PICTURES, index_html
from local.error_report.pictures import plot_boundaries, plot_classes, plot_confusions
from local.error_report.tables import errors_as_json, event_verdicts, format_events
from local.scoring.figures import save_figure
from local.scoring.results import INDEX_FILE, TIMELINE_ROLE, error_report_folder

JSON_FILE, EVENTS_FILE = "errors.json", "events.tsv"


def report_test(
    run_folder: Path,
    scores: Decoded,
    truth: Truth,
    files: Mapping[str, Path],
    config: RecipeConfig,
    *,
    checkpoint: str,
) -> dict[str, Path]:
    """Write the report of a test that has just been made; without one, a warning says why.

    Reports of earlier tests in the folder are removed, but nothing else that is beside their files.
    Nothing that goes wrong here may lose the test's results.

    Args:
        run_folder: the run folder.
        scores: what events are detected in, of the network that reports are of.
        truth: of the events part of the test.
        files, config, checkpoint: as of `write_error_report`.

    Returns:
        As `write_error_report`; empty if there is no report.
    """
    for role in ROLES:
        if role != TIMELINE_ROLE:
            _remove_report(error_report_folder(run_folder, role))
    try:
        threshold = config.predict.threshold
        labels = truth.part.corpus.known
        errors = find_errors(scores, truth, labels, threshold, role=TIMELINE_ROLE)
        return write_error_report(run_folder, errors, files, config, checkpoint=checkpoint)
    except Exception as error:
        folder = error_report_folder(run_folder, TIMELINE_ROLE)
        _remove_report(folder)  # an earlier test's
        reason = error if isinstance(error, InputError | OSError) else repr(error)
        text = printable(f"{folder}: no error report is written: {reason}")
        warnings.warn(text, UserWarning, stacklevel=2)
        return {}


def _others_in(folder: Path) -> list[Path]:
    """Files in the folder of a report, except hidden ones, that are none of a report."""
    clips = folder / CLIPS_FOLDER
    own = {folder / name for name in (INDEX_FILE, JSON_FILE, EVENTS_FILE, CLIPS_PICTURE, *PICTURES)}
    return [
        path
        for path in sorted(folder.rglob("*"))
        if not (path.is_dir() or path.name.startswith(".") or path in own)
        and not (path.parent == clips and path.suffix == PAGE_SUFFIX)
    ]


def _remove_report(folder: Path) -> None:
    """Remove a report as far as possible; what else is in its folder, or is a link, stays."""
    if folder.is_symlink():
        return
    others = _others_in(folder)
    if not others:
        shutil.rmtree(folder, ignore_errors=True)
    for path in folder.rglob("*"):
        if path.is_file() and path not in others and not path.name.startswith("."):
            path.unlink(missing_ok=True)


def write_error_report(
    run_folder: Path,
    errors: FoundErrors,
    files: Mapping[str, Path],
    config: RecipeConfig,
    *,
    checkpoint: str,
) -> dict[str, Path]:
    """Write a report, which replaces an earlier one of the same network as a whole.

    Clips whose audio cannot be read have no page, which a warning says.

    Args:
        run_folder: the run folder.
        errors: the errors.
        files: clip -> audio file, of the clips on disk.
        config: configuration of the test; gives front end and decoder.
        checkpoint: file name of the tested checkpoint.

    Returns:
        The pictures of the report: name without suffix -> file.

    Raises:
        InputError: something else is in its place, or other files are in its folder.
        OSError: the folder cannot be written.
    """
    target = error_report_folder(run_folder, errors.role)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputError(f"{target} is not a folder of its own; move it away and test again")
    if others := [path.relative_to(target).as_posix() for path in _others_in(target)]:
        raise InputError(
            f"{target} contains what no report does ({examples(others)}); move it away and write "
            "the report again (summarize_runs.py --error_report)"
        )
    rows, worst, corpus = event_verdicts(errors), errors.worst_clips().tolist(), errors.corpus
    decoder = config.decoder.kind
    facts = {"test set": corpus.title, "network": errors.role, "checkpoint": checkpoint}
    facts["decoder"] = decoder
    drawn = dict(zip(PICTURES, (plot_classes, plot_confusions, plot_boundaries), strict=True))
    with atomic_folder(target) as folder:
        pages = write_clip_pages(folder, target, errors, worst, files, config, facts)
        figures = {name: plot(errors) for name, plot in drawn.items()}
        if worst:
            figures[CLIPS_PICTURE] = plot_worst_clips(errors, worst)
        for name, figure in figures.items():
            save_figure(figure, folder / name)
        write_text_atomic(folder / EVENTS_FILE, format_events(errors, rows))
        run = {"corpus": corpus.name, "checkpoint": checkpoint, "decoder": decoder}
        write_json_atomic(folder / JSON_FILE, errors_as_json(errors, pages, run))
        page = index_html(
            errors,
            rows,
            title=f"What goes wrong: {errors.role} on {corpus.title}",
            facts=facts,
            pictures={name: (folder / name).read_bytes() for name in figures},
            pages=pages,
        )
        write_text_atomic(folder / INDEX_FILE, page)
    return {Path(name).stem: target / name for name in figures}
