"""Kill a command whenever it is about to change a file, let it finish, compare what it wrote.

    PYTHONPATH=. python tests/kill_points.py WORK '{"extract": {"most": 20}}'
    PYTHONPATH=. python tests/kill_points.py WORK '{"train": {"chain": ["rename last.ckpt"]}}'

A moment is an operation on a file below `out`: it is opened for writing, renamed, removed or
linked, a folder is made, an SQL statement or a row of an HDF5 file is written, a file is flushed to
disk. An audit hook counts them, so that no library escapes. Moments are of one kind if the same
line of our code does the same to the same kind of name.

    most: try the first and the last moment of each kind, each from an empty folder; at most so
        many, evenly spread; null for all.
    chain: kill the command at the first moment of a kind that contains the text, start it again,
        kill it at the next, and so on.

Each run is forked from a process that has everything imported. benchmarks/kill_loop.py kills real
commands at random moments instead.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import runpy
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from benchmarks import kill_commands
from benchmarks.kill_commands import COMMANDS, OUT, ROOT, make_inputs
from benchmarks.kill_compare import contents, differences

OPERATIONS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}
NEVER = "no such moment"
# Imported before any fork, as they take seconds.
HEAVY = (
    *("local.run", "local.prep.prepare", "local.prep.mini_corpus.make", "local.submission.make"),
    *("local.extraction.extractor", "local.data.loading.packed_corpora", "local.tuning.report"),
    *("local.tuning.training_stage", "local.tuning.median_stage", "codecarbon"),
    "desed_task.encoders.beats.model",
)
# Waiting for the owner of a trial takes no time, and the objective needs no network.
SEARCH = """
from pathlib import Path
from local.config import load_config
from local.tuning import median_stage, report, study
from local.tuning.search_space import Space
from local.tuning.training_stage import TuningPlan
from local.tuning.workers.messages import TrialOutcome
study.STARTING_S = median_stage.SETTLING_S = 0.0
config = load_config("inputs/mini.yaml")
space = Space.load("inputs/mini.yaml", "training")
plan = TuningPlan(config, space, Path("out"), "STORAGE", "s", 4, pruning=False)
def evaluate(config):
    return TrialOutcome("complete", config.opt.lr * config.net.n_RNN_cell)
report.write_report(median_stage.search_lengths(plan, evaluate))
"""
STORAGES = {"search": "sqlite:///out/optuna-sed.db", "journal": "out/study.log"}


class Moments:
    """Counts the moments of this process and kills it at one of them.

    Args:
        folder: where files are looked after.
        fatal: the number of the moment, from 1, or a text that its kind contains.
    """

    def __init__(self, folder: Path, fatal: int | str) -> None:
        self.folder, self.fatal = str(folder), fatal
        self.kinds: list[str] = []
        self.stopped = False

    def start(self) -> None:
        """Count from now on."""
        sys.addaudithook(self._hear)
        write, fsync, connect = h5py.Dataset.__setitem__, os.fsync, sqlite3.connect

        def counted_write(dataset: Any, key: Any, value: Any) -> None:
            self.note("hdf5", dataset.name)
            write(dataset, key, value)

        def counted_fsync(file: Any) -> None:
            self.note("fsync", "")
            fsync(file)

        def counted_connect(*args: Any, **settings: Any) -> sqlite3.Connection:
            connection = connect(*args, **settings)
            connection.set_trace_callback(lambda text: self.note("sql", text.split("VALUES")[0]))
            return connection

        h5py.Dataset.__setitem__, os.fsync = counted_write, counted_fsync
        sqlite3.connect = sqlite3.dbapi2.connect = counted_connect

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.stopped:
            return
        if event == "open" and isinstance(args[0], str | bytes):
            path, flags = os.fsdecode(args[0]), args[2]
            if flags & (os.O_WRONLY | os.O_RDWR) and self._ours(path):
                self.note("open", path)
                self.note("opened", path, lambda: os.close(os.open(path, flags, 0o666)))
        elif event in OPERATIONS:
            paths = [os.fsdecode(arg) for arg in args if isinstance(arg, str | bytes | os.PathLike)]
            if any(self._ours(path) for path in paths):
                self.note(event, paths[-1])

    def _ours(self, path: str) -> bool:
        return os.path.abspath(path).startswith(self.folder)

    def note(self, event: str, name: str, first: Callable[[], None] = lambda: None) -> None:
        """Count a moment; `first` is done before the process dies at it."""
        self.stopped = True
        name = name if event == "sql" else os.path.basename(name)
        name = re.sub(r"tmp[0-9a-f]{5}|[0-9a-f]{8}|[0-9]+", "#", name)
        name = " ".join(name.split())[:60]
        kind = f"{event.removeprefix('os.')} {name} {_line_of_ours()}"
        self.kinds.append(kind)
        if self.fatal in (len(self.kinds), kind) or str(self.fatal) in kind:
            with contextlib.suppress(OSError):
                first()
            os.kill(os.getpid(), signal.SIGKILL)
        self.stopped = False


def _line_of_ours() -> str:
    """Where our code is, but for this file."""
    frame = sys._getframe(2)
    while frame is not None:
        place = frame.f_code.co_filename
        if place.startswith(str(ROOT)) and place != __file__:
            return f"{os.path.relpath(place, ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def forked(arguments: tuple[str, ...], work: Path, fatal: int | str = NEVER) -> int:
    """Run a command in a process of its own; its wait status."""
    (work / OUT / "tmp").mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.chdir(work)
            log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(log, 1)
            os.dup2(log, 2)
            tempfile.tempdir = str(work / OUT / "tmp")
            moments = Moments(work / OUT, fatal)
            moments.start()
            status = _run(arguments)
            moments.stopped = True
            Path("kinds.json").write_text(json.dumps(moments.kinds))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitpid(child, 0)[1]


def _run(arguments: tuple[str, ...]) -> int:
    if arguments[0] == "-c":
        exec(arguments[1], {"__name__": "kill_points"})
        return 0
    sys.argv = list(arguments)
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def forked_script(work: Path, *arguments: str) -> None:
    """As `kill_commands.run_script`, without importing everything again."""
    status = forked((str(ROOT / arguments[0]), *arguments[1:]), work)
    assert status == 0, (work / "log.txt").read_text()


def chosen(kinds: list[str], most: int | None) -> list[int]:
    """The first and the last moment of each kind, from 1; at most so many, evenly spread."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for number, kind in enumerate(kinds, 1):
        first.setdefault(kind, number)
        last[kind] = number
    found = sorted({*first.values(), *last.values()})
    if most is None or len(found) <= most:
        return found
    return [found[round(place * (len(found) - 1) / (most - 1))] for place in range(most)]


def check(name: str, work: Path, most: int | None = None, chain: list[str] | None = None) -> Any:
    """Kill a command; its number of moments and kills, and the faults found."""
    arguments, inputs = _command(name)
    make_inputs(work, inputs)
    shutil.rmtree(work / OUT, ignore_errors=True)
    status = forked(arguments, work)
    assert status == 0, (work / "log.txt").read_text()
    expected, faults = contents(work / OUT), []
    kinds: list[str] = json.loads((work / "kinds.json").read_text())
    rounds: list[list[int | str]] = [[one] for one in chosen(kinds, most)]
    for kills in rounds if chain is None else [list(chain)]:
        shutil.rmtree(work / OUT)
        found = []
        for kill in kills:
            status = forked(arguments, work, kill)
            if status != signal.SIGKILL:
                found.append(f"{kill} was not reached: status {status}")
        status = forked(arguments, work)
        found += [f"status {status}: {(work / 'log.txt').read_text()[-300:]}"] if status else []
        found += differences(expected, contents(work / OUT))
        named = [kinds[kill - 1] if isinstance(kill, int) else kill for kill in kills]
        faults += [f"killed at {named}: {fault}" for fault in found]
        if found:
            print(faults[-1], file=sys.stderr, flush=True)
    n_kills = len(chain) if chain is not None else len(rounds)
    return {"moments": len(kinds), "kills": n_kills, "faults": faults}


def _command(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if name in STORAGES:
        return ("-c", SEARCH.replace("STORAGE", STORAGES[name])), ("corpus",)
    command = COMMANDS[name]
    # One process, as a pool's would not be forked from this one; and fewer epochs.
    shorter = {"small()": "small(), jobs=1", "training.n_epochs=6": "training.n_epochs=2"}
    arguments = command.arguments
    for one, other in shorter.items():
        arguments = tuple(argument.replace(one, other) for argument in arguments)
    return arguments, command.inputs


def main(work: Path, plan: dict[str, dict[str, Any]]) -> None:
    """Check the commands of a plan and print the results as JSON."""
    for module in HEAVY:
        importlib.import_module(module)
    kill_commands.run_script = forked_script
    print(json.dumps({name: check(name, work, **how) for name, how in plan.items()}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), json.loads(sys.argv[2]))
