"""Write the challenge's package: scores, energy and metadata of a system, zipped.

    submission/
      Lovelace_AEI_task4_1/
        Lovelace_AEI_task4_1.meta.yaml
        Lovelace_AEI_task4_1_run1.output/<clip>.tsv              post-processed scores
        Lovelace_AEI_task4_1_run1_unprocessed.output/<clip>.tsv
        Lovelace_AEI_task4_1_run1_codecarbon/emissions_{training,test,eval}.csv
        baseline_codecarbon/emissions_{training,test}.csv
      report.pdf        added by the user
      submission.zip    all systems in the folder, and the report

The layout is that of the organisers' checker of 2024.
"""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from desed_task.atomic_files import atomic_path, read_text, write_text_atomic
from desed_task.dataio.clip_names import last_part
from desed_task.parallel import track
from local.schema.yaml_files import read_yaml
from local.scoring.score_files import SCORE_KINDS, score_folder
from local.submission.metadata_form import LABEL
from local.submission.submitted_runs import SubmittedRun

ZIP = "submission.zip"
SCORE_SUFFIX = {"postprocessed": "", "unprocessed": "_unprocessed"}


def system_folders(folder: Path) -> list[Path]:
    """Folders of complete systems."""
    places = sorted(folder.iterdir()) if folder.is_dir() else []
    return [p for p in places if LABEL.fullmatch(p.name) and (p / f"{p.name}.meta.yaml").is_file()]


def package_contents(system: Path) -> tuple[str, list[str]] | None:
    """Model and checkpoints (SHA-256) of a system's folder; None if it is not one."""
    path = system / f"{system.name}.meta.yaml"
    if not path.is_file():
        return None
    found = read_yaml(path)["results"]
    return found["model"], [run["checkpoint_sha256"] for run in found["runs"]]


def write_system(
    place: Path,
    label: str,
    runs: Sequence[SubmittedRun],
    *,
    role: str,
    baseline: Mapping[str, Path],
    metadata: Mapping[str, Any],
) -> None:
    """Write a system into an empty folder.

    Args:
        place: the system's folder.
        label: label of the system.
        runs: its runs, one per training.
        role: the network whose scores are submitted.
        baseline: stage -> table of the baseline's energy; may be empty.
        metadata: content of the metadata file.
    """
    copies: list[tuple[Path, Path]] = []
    tables_of: dict[Path, tuple[Path, ...]] = {}
    for number, run in enumerate(runs, 1):
        own = f"{label}_run{number}"
        for kind in SCORE_KINDS:
            tables = score_folder(run.folder, role, kind)
            output = place / f"{own}{SCORE_SUFFIX[kind]}.output"
            # Flat, as the challenge's checker reads it; `file_checks` refuses clips of one name.
            copies += [
                (tables / f"{clip}.tsv", output / f"{last_part(clip)}.tsv") for clip in run.clips
            ]
        tables_of |= _energy_tables(run.energy, place / f"{own}_codecarbon")
    of_baseline = {stage: (path,) for stage, path in baseline.items()}
    tables_of |= _energy_tables(of_baseline, place / "baseline_codecarbon")
    copies += [(paths[0], target) for target, paths in tables_of.items() if len(paths) == 1]
    for folder in {target.parent for target in (*tables_of, *(to for _, to in copies))}:
        folder.mkdir()
    for target, paths in tables_of.items():
        if len(paths) > 1:
            write_text_atomic(target, join_tables(paths))
    for source, target in track(copies, "copying", len(copies), leave=False):
        shutil.copyfile(source, target)
    text = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True)
    write_text_atomic(place / f"{label}.meta.yaml", text)


def _energy_tables(
    tables: Mapping[str, tuple[Path, ...]], folder: Path
) -> dict[Path, tuple[Path, ...]]:
    return {folder / f"emissions_{stage}.csv": paths for stage, paths in tables.items()}


def join_tables(paths: Sequence[Path]) -> str:
    """The rows of several tables of codecarbon in one, with the columns of all.

    A training that was resumed has a row per session; so have those of averaged checkpoints.
    """
    readers = [csv.DictReader(read_text(path).splitlines()) for path in paths]
    rows = [row for reader in readers for row in reader]
    columns = dict.fromkeys(name for reader in readers for name in reader.fieldnames or ())
    written = io.StringIO()
    writer = csv.DictWriter(written, [*columns], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def zip_systems(folder: Path) -> Path:
    """Write submission.zip of all systems and reports in a folder, atomically."""
    files = [path for system in system_folders(folder) for path in sorted(system.rglob("*"))]
    files = [path for path in (*technical_reports(folder), *files) if path.is_file()]
    target = folder / ZIP
    with (
        atomic_path(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for path in track(files, "zipping", len(files), leave=False):
            archive.write(path, path.relative_to(folder))
    return target


def technical_reports(folder: Path) -> list[Path]:
    """Technical reports beside the systems."""
    return sorted(folder.glob("*.pdf"))
