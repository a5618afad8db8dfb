"""Compare what two runs of a command left, apart from what measures or names the run itself.

Files are compared by their bytes, except for those of `RULES`, whose contents are compared without
the parts that differ between two uninterrupted runs too.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
import yaml
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from desed_task.atomic_files import sha256_of
from desed_task.errors import count_of
from local.cli.own_files import RECORD_FILE

Lines = list[str]
# Of ONNX Runtime in the folder for temporary files, replaced by each process.
SESSION_FILE = ".ses"


class Rule(NamedTuple):
    """How files of a pattern are compared.

    Attributes:
        pattern: of the file's name.
        read: its comparable content.
        reason: why it cannot be compared by its bytes.
    """

    pattern: str
    read: Callable[[Path], Lines]
    reason: str


def contents(folder: Path) -> dict[str, Lines]:
    """Path below `folder` -> comparable content, of every file and empty folder.

    Event files of one folder are one entry, as each session writes its own; folders of trials are
    numbered in order, as a retried trial has a number too.
    """
    homes = sorted(folder.glob("**/trial-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    numbers = {path.name: f"trial #{place}" for place, path in enumerate(homes)}
    found: dict[str, Lines] = {}
    for path in sorted(folder.rglob("*")):
        name = "/".join(numbers.get(part, part) for part in path.relative_to(folder).parts)
        if (path.is_dir() and any(path.iterdir())) or path.name == SESSION_FILE:
            continue
        if path.name.startswith("events.out.tfevents."):
            found.setdefault(f"{name.rpartition('/')[0]}/events", _events(path.parent))
        else:
            found[name] = read(path)
    return found


def read(path: Path) -> Lines:
    """The comparable content of a file."""
    if path.is_dir():
        return ["an empty folder"]
    rule = next((rule for rule in RULES if fnmatch(path.name, rule.pattern)), None)
    return [sha256_of(path)] if rule is None else rule.read(path)


def differences(expected: dict[str, Lines], found: dict[str, Lines]) -> list[str]:
    """One line for each path that is missing, left over or of another content."""
    lines = [f"{name}: missing" for name in expected.keys() - found.keys()]
    lines += [f"{name}: left over" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        one, other = expected[name], found[name]
        if one != other:
            unlike = [pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]]
            first = (
                " | ".join(unlike[0]) if unlike else f"{len(one)} | {count_of(len(other), 'line')}"
            )
            lines.append(
                f"{name}: {count_of(len(unlike), 'value differs', 'values differ')}: {first[-300:]}"
            )
    return sorted(lines)


def plain(value: Any, name: str = "") -> Iterator[str]:
    """One line for each value of a tree, with its path; arrays by their digest."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from plain(entry, f"{name}/{key}")
    elif isinstance(value, list | tuple) and len(value) < 100:
        for place, entry in enumerate(value):
            yield from plain(entry, f"{name}/{place}")
    elif isinstance(value, torch.Tensor | np.ndarray):
        array = np.ascontiguousarray(value)
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        yield f"{name}: {array.dtype}{list(array.shape)} {digest}"
    else:
        yield f"{name}: {value!r}"


def _checkpoint(path: Path) -> Lines:
    """All values but the score of the last validation, which Lightning does not restore and
    nothing reads, and the number of the trial in the path of its own folder.
    """
    lines = plain(torch.load(path, map_location="cpu", weights_only=True))
    kept = [line for line in lines if "/current_score: " not in line]
    return [re.sub(r"/trial-\d+/", "/trial/", line) for line in kept]


def _events(folder: Path) -> Lines:
    """Values of all sessions: the last written of each tag and step; pictures by tag and step."""
    values: dict[tuple[str, int], str] = {}
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value if event.HasField("summary") else ():
                if not value.tag.startswith("energy/"):
                    numbers = list(value.tensor.float_val)
                    values[value.tag, event.step] = str(numbers)
    return [f"{tag} {step}: {value}" for (tag, step), value in sorted(values.items())]


def _energy(path: Path) -> Lines:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if not rows:
        return ["empty"]
    complete = all(len(row) == len(rows[0]) for row in rows)
    return [*rows[0], "complete" if complete else "a row is cut"]


def _sessions(path: Path) -> Lines:
    """The distinct records of a run.yaml, without the commit, which a user may make meanwhile, and
    without what a session was resumed from.
    """
    records = yaml.safe_load(path.read_text(encoding="utf-8"))
    told = ["\n".join(plain({**one, "commit": "", "resumed": ""})) for one in records]
    return list(dict.fromkeys(told))


def _sources(path: Path) -> Lines:
    """Name, size and digest of each source, without its time."""
    tree = json.loads(path.read_text(encoding="utf-8"))["sources"]
    return [f"{name}: {size} {digest}" for name, (size, _, digest) in sorted(tree.items())]


def _stamped(path: Path) -> Lines:
    """Digests of files, without their times and sizes."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    return [f"{name}: {digest}" for name, (*_, digest) in sorted(tree.items())]


def _record(path: Path) -> Lines:
    """The names of the recorded files."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return sorted({json.loads(line)[0] for line in lines})


def _study(path: Path) -> Lines:
    """Values and metrics of the trials of each study in order, without retried ones."""
    query = """SELECT s.study_name, t.state, v.value,
        (SELECT group_concat(p.param_name || '=' || p.param_value) FROM
            (SELECT * FROM trial_params WHERE trial_id = t.trial_id ORDER BY param_name) p)
        FROM trials t JOIN studies s USING (study_id) LEFT JOIN trial_values v USING (trial_id)
        WHERE t.trial_id NOT IN (SELECT trial_id FROM trial_user_attributes
            WHERE key = 'tried_again' AND value_json = 'true')
        ORDER BY s.study_name, t.number"""
    with sqlite3.connect(path) as database:
        return [str(row) for row in database.execute(query)]


def _trials(path: Path) -> Lines:
    """The rows of trials.tsv without numbers, seconds and retried trials."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    return ["\t".join(row[1:-2]) for row in rows if row[1] != "fail"]


def _log(path: Path) -> Lines:
    """Values of the trials that ended in a study's log."""
    lines = path.read_text(encoding="utf-8").splitlines()
    ended = [re.search(r"(complete|pruned) .*", line) for line in lines]
    return [re.sub(r"  retry of .*|\(?trial \d+\)?", "", found[0]) for found in ended if found]


def _uncommented(path: Path) -> Lines:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("# trial ")]


def _members(path: Path) -> Lines:
    with zipfile.ZipFile(path) as archive:
        return [f"{one.filename} {one.CRC}" for one in archive.infolist()]


def _store(path: Path) -> Lines:
    with h5py.File(path, "r", locking=False) as file:
        return list(plain({**file.attrs, **{name: file[name][:] for name in file}}))


def _present(path: Path) -> Lines:
    if path.is_symlink():
        return ["a link"]
    return ["present" if path.stat().st_size else "empty"]


RULES = (
    Rule(".*.sources.json", _sources, "times of files that were made again"),
    Rule(RECORD_FILE, _record, "lines in the order in which threads end, and of contents since"),
    Rule("*.ckpt", _checkpoint, "pickle stores equal values once or twice, as objects are shared"),
    Rule("emissions_*.csv", _energy, "measured energy and times; a killed session has no row"),
    Rule("run.yaml", _sessions, "a record for each session"),
    Rule("optuna-sed.db", _study, "times, processes and numbers of retried trials"),
    Rule("study.log*", _present, "times, processes; a lock that a kill leaves is removed later"),
    Rule("trials.tsv", _trials, "numbers of retried trials and seconds"),
    Rule("optuna-sed.log", _log, "times and numbers of trials; lines on those that were retried"),
    Rule("best.yaml", _uncommented, "its comment names the trial's number"),
    Rule("history.*", _present, "the axis is the trial's number"),
    Rule("slices.*", _present, "colours are the trials' numbers"),
    Rule("digests.json", _stamped, "times of the files of a plan"),
    Rule("time.json", _present, "seconds that a stage of a plan took"),
    Rule("log.txt", _present, "each start of a stage adds what it says"),
    Rule("output.txt", _present, "each session adds its output"),
    Rule("*.html", _present, "Plotly's random identifiers"),
    Rule("submission.zip", _members, "times of the members"),
)
