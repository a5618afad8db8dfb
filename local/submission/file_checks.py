"""Check the files of a submission against the challenge's rules; each problem is a message."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import read_text
from desed_task.audio.clip_files import clip_files
from desed_task.audio.windows import scored_s
from desed_task.dataio.clip_names import last_part
from desed_task.errors import InputError, agree, count_of
from desed_task.parallel import thread_map
from local.classes_dict import VOCABULARY
from local.data.clip_ends import check_clip_durations, header_durations
from local.scoring import results
from local.scoring.conditions import FREE_KEYS, TRAINING_SECTIONS, differing_conditions
from local.scoring.score_files import EVALUATION_FILE, SCORE_KINDS, score_folder
from local.submission.submitted_runs import SubmittedRun, SubmittedTraining

SCORE_COLUMNS = ("onset", "offset", *VOCABULARY)
# Columns of codecarbon's tables: energy by part, which the challenge compares, and the hardware.
ENERGY_COLUMNS = (
    "timestamp",
    "duration",
    "cpu_energy",
    "gpu_energy",
    "ram_energy",
    "energy_consumed",
    "country_iso_code",
    "codecarbon_version",
    "cpu_model",
    "gpu_model",
    "tracking_mode",
)
EVALUATE_REMEDY = "evaluate the checkpoint again"
_N_EXAMPLES = 3
# Corpus -> name in the metadata -> metric of results.json.
REPORTED_METRICS = {
    "desed": {
        "PSDS1": "psds1/sed_scores_eval",
        "PSDS1_psds_eval": "psds1/psds_eval",
        "PSDS2": "psds2/sed_scores_eval",
        "intersection_F1": "intersection_f1_macro_thres05/sed_scores_eval",
        "collar_F1": "collar_f1_macro_thres05/sed_scores_eval",
    },
    "maestro": {
        "mPAUC": "segment_mpauc/sed_scores_eval",
        "mAUC": "segment_mauc/sed_scores_eval",
        "segment_F1": "segment_f1_macro_thresopt/sed_scores_eval",
    },
}


def run_problems(runs: Sequence[SubmittedRun]) -> list[str]:
    """Find why the runs are not trainings of one system on one evaluation set."""
    problems = [problem for run in runs for problem in _shared_names(run)]
    for index, run in enumerate(runs):
        for other in runs[:index]:
            problems += _not_independent(other, run)
        if index:
            problems += _differences(runs[0], run)
    return problems


def _not_independent(other: SubmittedRun, run: SubmittedRun) -> Iterator[str]:
    """Checkpoints or seeds that two runs share."""
    where = f"{other.folder} and {run.folder}"
    shared = {one.sha256 for one in other.trainings} & {one.sha256 for one in run.trainings}
    # Averaged networks of several encoders may begin alike; their counterparts may not.
    pairs = zip(other.seeds, run.seeds, strict=False)
    if shared:
        yield f"{where} are of the same checkpoint; give runs of different trainings"
    elif alike := [seed for seed, same in pairs if seed == same]:
        yield (
            f"{where} both have training.seed {alike[0]}; runs must start from different weights: "
            "train with --set training.seed=..."
        )


def _shared_names(run: SubmittedRun) -> Iterator[str]:
    """Clips whose tables would have one name in the package, which has no subfolders."""
    clips: dict[str, list[str]] = {}
    for clip_id in run.clips:
        clips.setdefault(last_part(clip_id).casefold(), []).append(clip_id)
    for same in clips.values():
        if len(same) > 1:
            yield (
                f"{run.folder}: {' and '.join(same)} would be one table of the package, which has "
                "no subfolders; evaluate files of different names"
            )


def _differences(first: SubmittedRun, run: SubmittedRun) -> Iterator[str]:
    if len(run.trainings) != len(first.trainings):
        yield (
            f"{run.folder} averages {count_of(len(run.trainings), 'checkpoint')}, {first.folder} "
            f"{len(first.trainings)}; runs of one system may differ in the seed only"
        )
    for one, other in zip(run.trainings, first.trainings, strict=False):
        here, there = one.config.dump(), other.config.dump()
        where = f"{run.folder}{_which(one, run)}", f"{first.folder}{_which(other, first)}"
        for section in TRAINING_SECTIONS:
            for key in here[section]:
                passing = (section, key) in FREE_KEYS or here[section][key] == there[section][key]
                if not passing:
                    yield (
                        f"{where[0]} has {section}.{key} {here[section][key]!r}, {where[1]} "
                        f"{there[section][key]!r}; runs of one system may differ in the seed only"
                    )
    for text in differing_conditions(first.results, run.results):
        yield (
            f"{run.test} was scored otherwise than {first.test}: {text}; test both checkpoints "
            "on the same data with the same settings"
        )
    for whole, part in ((first, run), (run, first)):
        absent = sorted(set(whole.clips) - set(part.clips))
        if absent:
            yield (
                f"{part.folder}: {count_of(len(absent), 'clip')} of {whole.folder} "
                f"{agree(len(absent), 'is', 'are')} missing ({_examples(absent)}); "
                f"{EVALUATE_REMEDY} on the same clips"
            )


def _which(training: SubmittedTraining, run: SubmittedRun) -> str:
    """Which of several averaged checkpoints a text is about."""
    if len(run.trainings) == 1:
        return ""
    return f" (checkpoint {run.trainings.index(training) + 1}, of {training.folder})"


def table_problems(run: SubmittedRun, role: str) -> list[str]:
    """Find missing and invalid score tables of `role`, raw and post-processed."""
    problems = []
    for kind in SCORE_KINDS:
        folder = score_folder(run.folder, role, kind)
        there = {
            path.relative_to(folder).as_posix().removesuffix(".tsv")
            for path in folder.rglob("*.tsv")
        }
        absent, strange = sorted(run.clips.keys() - there), sorted(there - run.clips.keys())
        for names, what in ((absent, "no table of"), (strange, "tables of unknown clips:")):
            if names:
                problems.append(
                    f"{folder}: {what} {count_of(len(names), 'clip')} ({_examples(names)}); "
                    f"{EVALUATE_REMEDY}"
                )
        present = sorted(run.clips.keys() & there)
        clip_s = run.config.data.audio_max_len
        end_s = {clip: scored_s(run.clips[clip], clip_s) for clip in present}
        frame_s = run.config.grid.frame_s
        faults = thread_map(
            partial(_fault_of_clip, folder, end_s, frame_s),
            present,
            jobs=None,
            desc=f"checking {run.folder.name}/{role}/{kind}",
            progress=True,
            unit="table",
        )
        wrong = [fault for fault in faults if fault]
        problems += wrong[:_N_EXAMPLES]
        if len(wrong) > _N_EXAMPLES:
            problems.append(
                f"{folder}: "
                f"{count_of(len(wrong) - _N_EXAMPLES, 'more table is', 'more tables are')} wrong"
            )
    return problems


def duration_problems(run: SubmittedRun) -> list[str]:
    """Find clips whose durations in evaluation.json differ from their files', if these exist."""
    there = clip_files(Path(run.config.data.eval_folder))
    files_s = header_durations({clip: there[clip] for clip in run.clips if clip in there})
    path = run.folder / EVALUATION_FILE
    try:
        check_clip_durations(path, run.clips, files_s, remedy=EVALUATE_REMEDY)
    except InputError as error:
        return [str(error)]
    return []


def _fault_of_clip(folder: Path, end_s: dict[str, float], frame_s: float, clip: str) -> str:
    path = folder / f"{clip}.tsv"
    fault = table_fault(path, end_s[clip], frame_s)
    return f"{path}: {fault}; {EVALUATE_REMEDY}" if fault else ""


def table_fault(path: Path, end_s: float, frame_s: float) -> str:
    """Find the first problem of a table of scores; "" if there is none.

    Args:
        path: path of the table.
        end_s: expected end of its last frame in seconds.
        frame_s: length of the network's frames; it may end earlier or later by one. (Rows of boxes
            are of any length.)
    """
    try:
        head, *rows = read_text(path).splitlines() or [""]
        if head.split("\t") != list(SCORE_COLUMNS):
            return _wrong_columns(head.split("\t"))
        if not rows:
            return "contains no frames"
        values = np.loadtxt(rows, delimiter="\t", ndmin=2)
    except ValueError as error:
        return f"is not a table of numbers ({error})"
    if values.shape[1] != len(SCORE_COLUMNS):
        return (
            f"has rows of {count_of(values.shape[1], 'value')} under {len(SCORE_COLUMNS)} columns"
        )
    fault = _wrong_times(values[:, 0], values[:, 1], end_s, frame_s)
    return fault or _wrong_scores(values[:, 2:])


def _wrong_columns(found: Sequence[str]) -> str:
    absent = [name for name in SCORE_COLUMNS if name not in found]
    strange = [name for name in found if name not in SCORE_COLUMNS]
    if absent or strange:
        return f"columns missing: {', '.join(absent) or 'none'}; unknown: {', '.join(strange)}"
    return f"columns are not in the order {', '.join(SCORE_COLUMNS[:3])} ..."


def _wrong_times(
    onset_s: NDArray[Any], offset_s: NDArray[Any], end_s: float, frame_s: float
) -> str:
    if not (np.isfinite(onset_s).all() and np.isfinite(offset_s).all()):
        return "contains times that are not finite"
    if onset_s[0] != 0:
        return f"begins at {onset_s[0]:g} s, not at 0"
    empty = offset_s <= onset_s
    if empty.any():
        return f"a frame begins at {onset_s[empty][0]:g} s and does not end after it"
    gaps = np.flatnonzero(offset_s[:-1] != onset_s[1:])
    if len(gaps):
        return (
            f"a frame ends at {offset_s[gaps[0]]:g} s and the next one begins at "
            f"{onset_s[gaps[0] + 1]:g} s"
        )
    if abs(offset_s[-1] - end_s) > frame_s:
        return f"ends at {offset_s[-1]:g} s, the clip at {end_s:g} s"
    return ""


def _wrong_scores(values: NDArray[Any]) -> str:
    if not np.isfinite(values).all():
        return "contains scores that are not finite: the network has diverged"
    outside = values[(values < 0) | (values > 1)]
    return f"contains the score {outside[0]:g}, which is not in [0, 1]" if len(outside) else ""


def energy_problems(path: Path) -> list[str]:
    """Find missing and invalid entries of one of codecarbon's tables."""
    again = "run it again with energy.enabled=true"
    if not path.is_file():
        return [f"{path}: energy table not found; {again}"]
    reader = csv.DictReader(read_text(path).splitlines())
    rows, columns = list(reader), reader.fieldnames or ()
    absent = [name for name in ENERGY_COLUMNS if name not in columns]
    if absent:
        return [f"{path}: columns missing: {', '.join(absent)}; give codecarbon's complete table"]
    if not rows:
        return [f"{path}: contains no measurement; {again}"]
    return [
        f"{path}, line {line}: energy_consumed is {row['energy_consumed']!r}, not above 0; {again}"
        for line, row in enumerate(rows, 2)
        if not _number(row["energy_consumed"]) > 0
    ]


def energy_kwh(path: Path) -> float:
    """Sum the energy of a table's measurements: a resumed training has one per session."""
    rows = csv.DictReader(read_text(path).splitlines())
    return sum(float(row["energy_consumed"]) for row in rows)


def n_measurements(path: Path) -> int:
    """Number of measurements in an energy table."""
    return sum(1 for _ in csv.DictReader(read_text(path).splitlines()))


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def result_problems(run: SubmittedRun, role: str) -> list[str]:
    """Find dev-test metrics that are missing or undefined."""
    found = run.results.get("metrics", {})
    names = [f"test/{role}/{name}" for part in REPORTED_METRICS.values() for name in part.values()]
    return [
        f"{run.test / results.RESULTS_FILE}: no value of {name}; test the checkpoint again on the "
        "complete dev-test data"
        for name in names
        if not isinstance(found.get(name), float | int)
    ]


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:_N_EXAMPLES]) + (", ..." if len(names) > _N_EXAMPLES else "")
