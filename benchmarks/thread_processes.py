"""Processes that train, and that keep cores busy meanwhile; none outlives its block."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
# They end with their parent, even if that is killed; Ctrl-C is for the parent, which ends them.
# All are of its session, as Linux divides the cores among sessions first.
_BUSY_CODE: Final = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
parent = os.getppid()
while os.getppid() == parent:
    sum(range(9999))
"""
LOOP: Final = ("-m", "benchmarks.thread_loop")
_MOST_STEPS: Final = 1000
# Two steps of the default setting beside other work can take minutes.
_START_S: Final = 120.0


class Setting(NamedTuple):
    """How a process computes.

    Attributes:
        name: of its rows.
        variables: of its environment, besides those that are there.
        without: variables that are hidden from it.
        as_found: whether it sets nothing itself, unlike commands.
    """

    name: str
    variables: Mapping[str, str]
    without: tuple[str, ...] = ()
    as_found: bool = False


class Limits(NamedTuple):
    """How long the measurements take.

    Attributes:
        rounds: turns of each setting in each place.
        budget_s: seconds of a turn.
        patience_s: seconds after which a turn is given up, the step that it is in included.
    """

    rounds: int
    budget_s: float
    patience_s: float


Key = tuple[str, str]  # place, setting


class Loops:
    """A process of each setting that stays ready, as libraries read their threads when loaded.

    Args:
        path: configuration that they train.
        used: the settings.
        limits: how long they are measured.
        enter: command in front of theirs, for a control group.

    Attributes:
        times: seconds of the steps.
        slow: where a setting has no times, and why.
    """

    def __init__(
        self, path: Path, used: Sequence[Setting], limits: Limits, enter: Sequence[str] = ()
    ) -> None:
        self.used, self.limits = used, limits
        self.times: dict[Key, list[float]] = {}
        self.slow: dict[Key, str] = {}
        self._command = [*enter, sys.executable, *LOOP, str(path)]
        self._running: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Loops:
        try:
            for setting in self.used:
                self._running[setting.name] = self._start(setting)
                if self._answer(setting.name, _START_S) is None:
                    raise TimeoutError(f"{setting.name}: two steps took more than {_START_S:g} s")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            _end(process)

    def turns(self, place: str) -> None:
        """A turn of each setting; one that is too slow has no further turns anywhere."""
        for setting in self.used:
            name = setting.name
            process = self._running.get(name)
            if process is None:
                self.slow.setdefault((place, name), "not tried, as it was too slow before")
                continue
            assert process.stdin is not None
            process.stdin.write(f"{_MOST_STEPS} {self.limits.budget_s}\n")
            process.stdin.flush()
            answer = self._answer(name, self.limits.patience_s)
            if answer is None:
                self.slow[place, name] = f"more than {self.limits.patience_s:g} s for a step"
                # The others do not wait for its step; starting again could take minutes.
                _end(self._running.pop(name))
            else:
                self.times.setdefault((place, name), []).extend(json.loads(answer))

    def _answer(self, name: str, patience_s: float) -> str | None:
        """A line of a process; None if there is none in time."""
        output = self._running[name].stdout
        assert output is not None
        if not select.select([output], [], [], patience_s)[0]:
            return None
        line = output.readline()
        if not line:
            raise RuntimeError(f"{name}: the process has ended, see above")
        return line

    def _start(self, setting: Setting) -> subprocess.Popen[str]:
        outside = {k: v for k, v in os.environ.items() if k not in setting.without}
        search = os.pathsep.join(filter(None, [str(ROOT), outside.get("PYTHONPATH", "")]))
        return subprocess.Popen(
            [*self._command, *(["--as_found"] if setting.as_found else [])],
            env={**outside, **setting.variables, "PYTHONPATH": search},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep cores busy with processes that only count, until the block ends."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(number):
            running.append(subprocess.Popen([sys.executable, "-S", "-c", _BUSY_CODE]))
        yield
    finally:
        for process in running:
            _end(process)


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
