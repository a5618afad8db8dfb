"""Kill each command of the recipe at random moments, let it finish, compare what it wrote.

    python -m benchmarks.kill_loop                              # ten kills of every command
    python -m benchmarks.kill_loop --only train tune --kills 3  # some commands
    python -m benchmarks.kill_loop --work /tmp/kills --seed 1   # keep the inputs; other moments

Each command is run on small inputs without a kill first. Then its process group is killed (SIGKILL)
at a random moment, and it is started again; whenever it ends by itself, the files must be those of
the first run, and the next round begins in an empty folder. A kill that comes too late is not
counted, and an earlier moment is drawn. A command that names its steps is also killed once in each.
The exit status is 1 if any differ.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.kill_commands import COMMANDS, OUT, ROOT, Command, make_inputs
from benchmarks.kill_compare import contents, differences
from local.cli.arguments import positive_int

POLL_S = 0.005
# Share of the kills before anything is written, while modules are imported and inputs read.
SHARE_BEFORE = 0.2


@dataclass(frozen=True)
class Moment:
    """When a command is killed, as a share of the time that it took without a kill.

    Attributes:
        share: from 0 to 1: below `SHARE_BEFORE`, of the time to the first write; above it, of the
            time from this run's first write to the end. Of a step, of its time.
        step: which must have begun; None for the whole command.
    """

    share: float
    step: str | None = None

    def earlier(self, rng: random.Random) -> Moment:
        """A random moment before it, of the same step."""
        return replace(self, share=self.share * rng.random())


@dataclass
class Run:
    """One start of a command.

    Attributes:
        status: its exit status; negative if it was killed.
        first_write_s: seconds until something was written; None if nothing was.
        seconds: until it ended.
        said: the last line of its output.
        steps: steps that began -> from when to when, in seconds; None if they did not end.
    """

    status: int
    first_write_s: float | None
    seconds: float
    said: str
    steps: dict[str, tuple[float, float | None]]

    @property
    def was_killed(self) -> bool:
        """Whether it was killed before it ended by itself."""
        return self.status == -signal.SIGKILL


@dataclass
class Report:
    """The result of one command: moments of the kills, rounds and faults."""

    name: str
    kills: list[str] = field(default_factory=list)
    rounds: int = 0
    n_files: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class KillLoop:
    """Runs one command below `work`, whose `out` it writes."""

    command: Command
    work: Path
    rng: random.Random

    def run(self, moment: Moment | None = None, usual: Run | None = None) -> Run:
        """Start the command and kill it at a moment.

        Args:
            moment: of the kill. None: it is not killed.
            usual: an uninterrupted run.
        """
        environment, log = self._environment(), self.work / "log.txt"
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                [sys.executable, *self.command.arguments],
                cwd=self.work,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            run = self._watch(process, log, moment, usual)
        lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").split("\n")
        run.said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        run.status = process.wait()
        return run

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        log: Path,
        moment: Moment | None,
        usual: Run | None,
    ) -> Run:
        began, before = time.monotonic(), self._state()
        run = Run(0, None, 0.0, "", {})
        try:
            while process.poll() is None:
                run.seconds = time.monotonic() - began
                if run.first_write_s is None and self._state() != before:
                    run.first_write_s = run.seconds
                self._note_steps(run, log)
                if moment is not None and usual is not None and _due(run, moment, usual):
                    break
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        run.seconds = time.monotonic() - began
        self._note_steps(run, log)
        return run

    def _note_steps(self, run: Run, log: Path) -> None:
        """The steps that have begun and ended since the last look."""
        if self.command.steps is None:
            return
        begins, ends = self.command.steps
        text = log.read_text(encoding="utf-8", errors="replace")
        for name in re.findall(begins, text):
            run.steps.setdefault(name, (run.seconds, None))
        for name in re.findall(ends, text):
            from_s, to_s = run.steps.get(name, (None, None))
            if from_s is not None and to_s is None:
                run.steps[name] = from_s, run.seconds

    def _environment(self) -> dict[str, str]:
        temporary = self.work / OUT / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(temporary),  # compared, as a kill must leave nothing there either
        }

    def _state(self) -> set[tuple[str, int]]:
        return set(_files(self.work / OUT))

    def clear(self) -> None:
        """Remove what the command wrote."""
        shutil.rmtree(self.work / OUT, ignore_errors=True)


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """(path, size) of every file; those that vanish meanwhile are left out."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            try:
                yield path, os.stat(path).st_size
            except FileNotFoundError:
                continue


def _due(run: Run, moment: Moment, usual: Run) -> bool:
    """Whether the moment of the kill has come."""
    if moment.step is not None:
        (from_s, to_s), now = usual.steps[moment.step], run.steps.get(moment.step)
        length_s = (usual.seconds if to_s is None else to_s) - from_s
        return now is not None and run.seconds - now[0] >= moment.share * length_s
    begins_s = usual.first_write_s or usual.seconds
    if moment.share < SHARE_BEFORE:
        return run.seconds >= begins_s * moment.share / SHARE_BEFORE
    if run.first_write_s is None:
        return False
    rest = (moment.share - SHARE_BEFORE) / (1 - SHARE_BEFORE)
    return run.seconds - run.first_write_s >= rest * (usual.seconds - begins_s)


def moments(n: int, usual: Run, rng: random.Random) -> list[Moment]:
    """Random moments, the last first: one in each step, and one in each n-th of the time.

    Those of steps come first and in the order in which steps begin, so that one round has many.
    """
    found = [Moment((place + rng.random()) / n) for place in range(n)]
    rng.shuffle(found)
    ordered = sorted(usual.steps, key=lambda name: usual.steps[name][0])
    return [*found, *(Moment(rng.random(), name) for name in reversed(ordered))]


def check(name: str, work: Path, n_kills: int, seed: int) -> Report:
    """Kill one command and compare its files."""
    command, report = COMMANDS[name], Report(name)
    make_inputs(work, command.inputs)
    loop = KillLoop(command, work, random.Random(f"{seed} {name}"))
    loop.clear()
    usual = loop.run()
    if usual.status != 0:
        report.faults.append(f"without a kill: status {usual.status}: {usual.said}")
        return report
    expected = contents(work / OUT)
    report.n_files = len(expected)
    loop.clear()
    left = moments(n_kills, usual, loop.rng)
    while not report.faults and (left or report.rounds == 0 or (work / OUT).exists()):
        run = loop.run(left[-1] if left else None, usual)
        if run.was_killed:
            of = f" in {left[-1].step}" if left[-1].step else ""
            left.pop()
            report.kills.append(f"{run.seconds:.1f} s{of}: {run.said[:90]}")
            print(f"{name}: killed after {report.kills[-1]}", flush=True)
            continue
        if left:
            left[-1] = left[-1].earlier(loop.rng)  # it ended before the moment
        report.rounds += 1
        if run.status != 0:
            report.faults.append(f"status {run.status}: {run.said}")
        report.faults += differences(expected, contents(work / OUT))
        if not report.faults:
            loop.clear()
    return report


def row(report: Report) -> str:
    """A row of the table, and a line for each fault."""
    numbers = f"{len(report.kills):>5}  {report.rounds:>6}  {report.n_files:>5}"
    lines = [f"{report.name:<8}  {numbers}  {len(report.faults):>6}"]
    return "\n".join([*lines, *(f"    {fault}" for fault in report.faults)])


def main(argv: list[str] | None = None) -> int:
    """Run the loop; the exit status is 1 if files differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=tuple(COMMANDS), default=list(COMMANDS), help="commands")
    add(
        "--kills",
        type=positive_int,
        default=10,
        help="of each command, beside those of steps (default: 10)",
    )
    add("--seed", type=int, default=0, help="of the moments (default: 0)")
    add("--work", type=Path, help="folder that keeps inputs and results (default: temporary)")
    args = parser.parse_args(argv)
    work = args.work or Path(tempfile.mkdtemp(prefix="kill_loop_"))
    work = work.resolve()
    try:
        rows, failed = ["command   kills  rounds  files  faults"], False
        for name in args.only:
            report = check(name, work, args.kills, args.seed)
            rows.append(row(report))
            print(rows[-1], flush=True)
            failed |= bool(report.faults)
    finally:
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)
    print("\n".join(rows))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
