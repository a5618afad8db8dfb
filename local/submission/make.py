"""Make a system's submission to the challenge: check everything, then pack it.

    sources = SubmissionSources((Path("exp/eval/version_0"),), Path("meta.yaml"))
    make_submission(sources, Path("submission"))

`local.submission.package` describes the layout of a package.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from desed_task.atomic_files import atomic_folder
from desed_task.errors import InputError, count_of
from local.cli.own_files import OwnFiles, own_outputs
from local.scoring import results
from local.submission.encoders import EncoderCost, system_costs
from local.submission.file_checks import (
    duration_problems,
    energy_problems,
    n_measurements,
    result_problems,
    run_problems,
    table_problems,
)
from local.submission.metadata import compose_metadata
from local.submission.metadata_form import MetadataForm, read_form
from local.submission.package import (
    ZIP,
    package_contents,
    system_folders,
    technical_reports,
    write_system,
    zip_systems,
)
from local.submission.submitted_runs import SubmittedRun, find_run, stage_records

MAX_RUNS = 3
MAX_SYSTEMS = 4
OFFICIAL_CLIPS = 2200
BASELINE_STAGES = ("training", "test")


@dataclass(frozen=True)
class SubmissionSources:
    """The inputs of a package.

    Attributes:
        runs: run folders of evaluations, one per training.
        metadata: the filled-in form.
        role: "student" or "teacher".
        also: further run folders, of trainings and tests that are not beside their checkpoint.
        baseline: run folder of the baseline, trained and tested on the same machine.
        beats: weights of the BEATs that computed the embeddings; None for the configuration's.
        encoders: weights of any encoders that computed them, recognised by what the files hold;
            for others, the configuration's.
    """

    runs: tuple[Path, ...]
    metadata: Path
    role: str = "student"
    also: tuple[Path, ...] = ()
    baseline: Path | None = None
    beats: Path | None = None
    encoders: tuple[Path, ...] = ()


@dataclass
class _Checked:
    """The checked inputs and all problems found."""

    problems: list[str] = field(default_factory=list)
    form: MetadataForm | None = None
    runs: list[SubmittedRun] = field(default_factory=list)
    encoders: tuple[EncoderCost, ...] = ()
    baseline: dict[str, Path] = field(default_factory=dict)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Record an InputError's message as problems instead of raising it."""
        try:
            yield
        except InputError as error:
            self.problems += [line.removeprefix("  - ") for line in str(error).splitlines()]


def make_submission(sources: SubmissionSources, folder: Path, *, overwrite: bool = False) -> Path:
    """Check the inputs, write the system's folder and zip all systems of `folder`.

    Args:
        sources: inputs of the package.
        folder: output folder of `<label>/` and submission.zip.
        overwrite: whether to replace files that this program did not write.

    Returns:
        Path of the zip file.

    Raises:
        InputError: naming all missing and invalid inputs; nothing is written then.
    """
    checked = _check(sources, folder)
    if checked.problems or checked.form is None:
        raise InputError.collect(checked.problems, "The submission is not complete:", most_shown=40)
    label = checked.form.submission.label
    # Packages of earlier versions have no record.
    legacy = not OwnFiles(folder).exists and bool(system_folders(folder))
    own = OwnFiles(folder, overwrite=overwrite, recognise=lambda path: legacy)
    there = (path for path in (folder / label).rglob("*") if not path.is_dir())
    own.check([*there, folder / ZIP])
    tree = compose_metadata(
        checked.form,
        checked.runs,
        role=sources.role,
        encoders=checked.encoders,
        baseline=checked.baseline,
    )
    with atomic_folder(folder / label) as place:
        write_system(
            place,
            label,
            checked.runs,
            role=sources.role,
            baseline=checked.baseline,
            metadata=tree,
        )
        for path in place.rglob("*"):
            if path.is_file():
                own.record(folder / label / path.relative_to(place), path)
    with own_outputs(folder, [], overwrite=overwrite, recognise=lambda path: legacy):
        target = zip_systems(folder)
    for line in (*_notices(checked, folder), *_summary(target, tree)):
        print(line)
    return target


def _check(sources: SubmissionSources, folder: Path) -> _Checked:
    checked = _Checked()
    with checked.noting():
        checked.form = read_form(sources.metadata)
    if not 1 <= len(sources.runs) <= MAX_RUNS:
        checked.problems.append(
            f"{count_of(len(sources.runs), 'run')}; the challenge takes one to three"
        )
    for other in sources.also:
        with checked.noting():
            stage_records(other)
    for run_folder in sources.runs:
        with checked.noting():
            checked.runs.append(find_run(run_folder, sources.also))
    if checked.form is not None:
        checked.problems += _label_problems(folder, checked, sources.role)
    checked.problems += run_problems(checked.runs)
    for run in checked.runs:
        checked.problems += result_problems(run, sources.role) + duration_problems(run)
        for path in (path for paths in run.energy.values() for path in paths):
            checked.problems += energy_problems(path)
    if sources.baseline is not None:
        places = {
            stage: results.emissions_file(sources.baseline, stage) for stage in BASELINE_STAGES
        }
        checked.baseline = places
        for path in places.values():
            checked.problems += energy_problems(path)
    if checked.runs:
        with checked.noting():
            run, given = checked.runs[0], (*sources.encoders, *filter(None, [sources.beats]))
            clip_s = run.network.clip_s
            networks = [(one.config, one.checkpoint) for one in run.trainings]
            checked.encoders = system_costs(networks, given, clip_s, sources.role)
    for run in checked.runs:  # last, as there may be many
        checked.problems += table_problems(run, sources.role)
    return checked


def _label_problems(folder: Path, checked: _Checked, role: str) -> list[str]:
    """Check that the label is not another system's; the same system is replaced."""
    assert checked.form is not None
    place = folder / checked.form.submission.label
    problems = []
    if place.exists() and package_contents(place) != (role, [run.sha256 for run in checked.runs]):
        problems.append(
            f"{place}: contains another system (other checkpoints or the other model); give this "
            "one another label, or remove that folder"
        )
    others = [system for system in system_folders(folder) if system != place]
    if len(others) >= MAX_SYSTEMS:
        problems.append(
            f"{folder}: contains {count_of(len(others), 'system')} already; a team may submit "
            f"{MAX_SYSTEMS}"
        )
    return problems


def _notices(checked: _Checked, folder: Path) -> Iterator[str]:
    """Notes on recommendations of the challenge and on later checks."""
    if len(checked.runs) < MAX_RUNS:
        yield f"note: {len(checked.runs)} of the {MAX_RUNS} runs that the challenge asks for"
    n_clips = len(checked.runs[0].clips)
    if n_clips != OFFICIAL_CLIPS:
        yield f"note: {count_of(n_clips, 'clip')}; the evaluation set of 2024 has {OFFICIAL_CLIPS}"
    below = sum("/" in clip_id for clip_id in checked.runs[0].clips)
    if below:
        counted = count_of(below, "clip comes", "clips come")
        yield f"note: {counted} from subfolders, which their tables' names leave out"
    for run in checked.runs:
        yield from (f"note: {line}" for line in run.notes)
        for one in run.counted:
            measured = n_measurements(one.table)
            if measured < one.sessions:
                yield (
                    f"note: {one.folder}: energy of {measured} of its "
                    f"{count_of(one.sessions, 'session')}; a killed session leaves no measurement"
                )
        absent = sum(len(names) for names in run.results["missing"].values())
        if absent:
            counted_clips = count_of(absent, "dev-test clip was", "dev-test clips were")
            yield f"note: {run.test}: {counted_clips} missing, see its results.json"
    if not checked.baseline:
        yield "note: no energy of the baseline on this machine (--baseline)"
    if not technical_reports(folder):
        yield f"note: no technical report; put its PDF into {folder} and run again"


def _summary(target: Path, tree: dict[str, Any]) -> Iterator[str]:
    with zipfile.ZipFile(target) as archive:
        names = archive.namelist()
    for corpus, name in (("desed", "PSDS1"), ("maestro", "mPAUC")):
        found = tree["results"]["devtest"][corpus]
        deviation = found[f"{name}_std"]
        spread = "" if deviation is None else f" +- {deviation:.4f}"
        yield f"dev-test {name}: {found[name]:.4f}{spread}"
    for system in system_folders(target.parent):
        inside = [name for name in names if name.startswith(f"{system.name}/")]
        tables = sum(name.endswith(".tsv") for name in inside)
        others = count_of(len(inside) - tables, "other file")
    yield f"{system.name}: {count_of(tables, 'table')} of scores, {others}"
    yield f"{target}: {count_of(len(names), 'file')}, {target.stat().st_size / 1e6:.1f} MB"
