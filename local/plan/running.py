"""Run a plan: each stage as soon as what it needs is done, one on each device."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import join
from typing import IO, Any, NamedTuple

from desed_task.errors import CONSOLE_COMMANDS, STARTED_BY_CONSOLE, InputError, count_of
from local.cli.exit_status import StoppedError
from local.plan.child import ROOT, Child
from local.plan.folder import LOG_FILE, PlanFolder, StageState
from local.plan.graph import depending_on
from local.plan.reading import PlannedStage
from local.plan.stage_time import end_time
from local.plan.stages.commands import on_device
from local.plan.words import failure_text, time_text
from local.tuning.workers.device_slots import DeviceSlot

_LOOK_S = 0.1
# How long stages have to end by themselves.
_GRACE_S = 5.0


class StageFailure(NamedTuple):
    """A stage that has failed.

    Attributes:
        name: of the stage.
        reason: what it said, or how it ended.
        log: what it printed; None if it has not begun.
    """

    name: str
    reason: str
    log: Path | None

    @property
    def place(self) -> str:
        """A line that names its log, if there is one."""
        return f"\n  log: {self.log}" if self.log is not None else ""


class _Running(NamedTuple):
    stage: PlannedStage
    state: StageState
    child: Child
    slot: DeviceSlot
    log: Path
    log_start: int
    started: float
    held: IO[str]


class PlanRun:
    """The run of a plan.

    Args:
        folder: its folder, held by this process.
        slots: devices; a stage runs on each.
        again: the command that resumes it, for messages.
        scripts: folder of the scripts of the recipe.
        tell: prints a line.
    """

    def __init__(
        self,
        folder: PlanFolder,
        slots: Sequence[DeviceSlot],
        again: str,
        scripts: Path = ROOT,
        tell: Callable[[str], object] = print,
    ) -> None:
        self.done: dict[str, StageState] = {}
        self.failed: list[StageFailure] = []
        self._folder = folder
        self._stages = folder.plan.stages
        self._free = list(slots)
        self._running: list[_Running] = []
        self._waiting: dict[str, StageState] = {}
        self._again = again
        self._scripts = scripts
        self._tell = tell
        self._n_skipped = 0

    def run(self) -> bool:
        """Run what is not done; stages that do not depend on a failed one are run, too.

        Returns:
            Whether all stages are done.

        Raises:
            StoppedError: after Ctrl-C, SIGTERM or SIGHUP.
        """
        with _signals_stop():
            try:
                while self._step():
                    time.sleep(_LOOK_S)
            except KeyboardInterrupt:
                self._end_all()
                raise StoppedError(f"stopped; resume with: {self._again}") from None
            except BaseException:
                self._end_all()
                raise
        if self._n_skipped:
            word = count_of(self._n_skipped, "stage was", "stages were")
            self._tell(f"{word} done before")
        return len(self.done) == len(self._stages)

    def _step(self) -> bool:
        """Look after what runs and start what can; whether there is more to wait for."""
        for one in list(self._running):
            status = one.child.status()
            if status is not None:
                self._end(one, status)
        for name in self._ready():
            try:
                self._prepare(name)
            except (InputError, OSError) as error:  # of this stage; others go on
                self.failed.append(StageFailure(name, str(error), None))
                self._tell(f"{name} cannot begin: {error}")
        return bool(self._running) or bool(self._ready())

    def _prepare(self, name: str) -> None:
        """Skip a stage that is done, or start it if a device is free."""
        state = self._waiting.get(name)
        if state is None:
            state = self._folder.state(self._stages[name], self.done)
            self._folder.digests.save()
        if state.outputs is not None:
            self.done[name] = state
            self._n_skipped += 1
        elif self._free:
            self._waiting.pop(name, None)
            self._start(self._stages[name], state)
        else:
            self._waiting[name] = state

    def _ready(self) -> list[str]:
        over = {*self.done, *(one.name for one in self.failed)}
        over |= {one.stage.name for one in self._running}
        return [
            name
            for name, stage in self._stages.items()
            if name not in over and self.done.keys() >= set(stage.inputs)
        ]

    def _start(self, stage: PlannedStage, state: StageState) -> None:
        number = list(self._stages).index(stage.name) + 1
        title = f"[{number}/{len(self._stages)}] {stage.name} ({stage.spec.kind})"
        with ExitStack() as undo:
            held = undo.enter_context(self._folder.claim(state))
            ended = self._folder.ended(stage, state)
            if ended is not None:
                self.done[stage.name] = ended
                self._tell(f"{title} had ended when the plan was stopped")
                return
            slot = self._free[0]
            running = self._started(stage, state, slot, held)
            self._free.remove(slot)
            undo.pop_all()
        self._running.append(running)
        why = f", as {state.reason}" if state.reason else ""
        verb = "resumes" if state.begun else "runs again" if state.reason else "begins"
        self._tell(f"{title} {verb} on {slot}{why}; log: {running.log}")

    def _started(
        self, stage: PlannedStage, state: StageState, slot: DeviceSlot, held: IO[str]
    ) -> _Running:
        command = on_device(self._folder.begin(stage, state, self.done), slot)
        log = state.folder / LOG_FILE
        environment = slot.environment(os.environ)
        if STARTED_BY_CONSOLE in environment:
            environment[STARTED_BY_CONSOLE] = CONSOLE_COMMANDS[command.script]
        with log.open("ab") as file:
            file.write(f"$ python {join([command.script, *command.arguments])}\n".encode())
            file.flush()
            start = file.tell()
            script = self._scripts / command.script
            child = Child(script, command.arguments, file, environment, held)
        return _Running(stage, state, child, slot, log, start, time.monotonic(), held)

    def _end(self, one: _Running, status: int) -> None:
        """Record that a stage has ended."""
        self._release(one)
        seconds = time.monotonic() - one.started
        end_time(one.state.folder, seconds)
        name = one.stage.name
        reason = ""
        if status == 0:
            try:
                self.done[name] = self._folder.finish(one.stage, one.state)
            except (InputError, OSError) as error:
                reason = str(error)
        else:
            reason = failure_text(status, one.log, one.log_start)
        if reason:
            failure = StageFailure(name, reason, one.log)
            self.failed.append(failure)
            self._tell(f"{name} failed after {time_text(seconds)}: {reason}{failure.place}")
        else:
            self._tell(f"{name} is done, after {time_text(seconds)}")

    def _release(self, one: _Running) -> None:
        self._running.remove(one)
        one.child.close()
        one.held.close()
        self._free.append(one.slot)
        self._free.sort(key=lambda slot: slot.number)

    def _end_all(self) -> None:
        """End all stages within seconds; they lose nothing that they have stored."""
        with _deaf():
            for one in self._running:
                one.child.interrupt()
            end = time.monotonic() + _GRACE_S
            while time.monotonic() < end and any(
                one.child.status() is None for one in self._running
            ):
                time.sleep(_LOOK_S)
            for one in list(self._running):
                self._release(one)
                end_time(one.state.folder, time.monotonic() - one.started)

    def left_out(self) -> dict[str, list[str]]:
        """Stages that did not run -> the failed ones that they need."""
        needs = {name: stage.inputs for name, stage in self._stages.items()}
        found: dict[str, list[str]] = {}
        for one in self.failed:
            for name in depending_on([one.name], needs):
                found.setdefault(name, []).append(one.name)
        return {name: found[name] for name in self._stages if name in found}


_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def _signals_stop() -> Iterator[None]:
    """Let signals that end a process raise KeyboardInterrupt, unless they are ignored."""
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:
                    stack.callback(signal.signal, number, before)
                    signal.signal(number, _stop)
        yield


def _stop(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore further signals, as what runs is being ended."""
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *_ENDING):
                stack.callback(signal.signal, number, signal.getsignal(number))
                signal.signal(number, signal.SIG_IGN)
        yield
