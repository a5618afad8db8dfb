"""Python programs that are forked from a process which has imported everything.

    with Forked([sys.executable, "train_pretrained.py", ...], cwd=..., stdout=PIPE) as running: ...

To import PyTorch and Lightning costs a program nine seconds of processor time, and a program in
three processes four times as much. A `Forked` is a `subprocess.Popen` of a process like any other:
with a number, an exit status, environment, folder and streams of its own; it can be killed. The
processes that it starts for `--devices` are forked as well. What it has from the start are imported
modules and the seed of hashes, so that tests of imports, of what is read before PyTorch is loaded
and of `torchrun` start real programs; one of each kind of command does, too.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# What commands import, mostly not before they need it.
HEAVY = (
    *("local.run", "local.prep.prepare", "local.submission.make", "local.summary.summarize"),
    *("local.extraction.extractor", "local.data.loading.packed_corpora", "local.tuning.report"),
    *("local.tuning.training_stage", "local.tuning.median_stage", "codecarbon", "thop", "optuna"),
    *("desed_task.encoders.beats.model", "desed_task.encoders.vit", "local.predict.predict_all"),
    *("local.processes.group", "torch.distributed.launcher.api"),
)
# Modules beside this file -> what commands call first where the variable of the module is set.
SHORTER = {"undrawn": "draw_nothing", "few_resamples": "draw_few"}
STATUS = struct.Struct("!i")
# The address of the server, here and in whatever it forks.
_address: list[str] = []


class Forked(subprocess.Popen[Any]):
    """A process that the server forks; `args` are `python [-u] {FILE,-c CODE} WORDS`."""

    def _execute_child(self, args: Any, *more: Any) -> None:
        _executable, preexec_fn, _close_fds, pass_fds, cwd, env = more[:6]
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = more[9:15]
        variables = dict(os.environ if env is None else env)
        assert not preexec_fn, "not of a forked process"
        same = ("OMP_NUM_THREADS", "PYTHONHASHSEED")
        assert all(variables.get(name) == os.environ.get(name) for name in same), same
        request = {
            "words": [os.fspath(word) for word in args],
            "folder": os.fspath(cwd) if cwd else os.getcwd(),
            "variables": variables,
            "session": bool(more[20]),  # start_new_session
            "kept": [int(fd) for fd in pass_fds],
            "parent": os.getpid(),
        }
        streams = [p2cread, c2pwrite, errwrite]
        self._talk = socket.socket(socket.AF_UNIX)
        self._talk.connect(address())
        text = json.dumps(request).encode()
        given = [number if at == -1 else at for number, at in enumerate(streams)]
        given += request["kept"]
        socket.send_fds(self._talk, [STATUS.pack(len(text))], given)
        self._talk.sendall(text)
        self.pid = STATUS.unpack(self._talk.recv(STATUS.size, socket.MSG_WAITALL))[0]
        self._child_created = True
        if rank := variables.get("RANK"):
            _place_of(os.getpid(), int(rank)).write_text(str(self.pid))
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None:
            with contextlib.suppress(TimeoutError, BlockingIOError):
                self._receive(0)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            try:
                self._receive(timeout)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        assert self.returncode is not None
        return self.returncode

    def _receive(self, timeout: float | None) -> None:
        with self._waitpid_lock:
            if self.returncode is None:
                self._talk.settimeout(timeout)
                found = self._talk.recv(STATUS.size)
                assert found, "the server of forks has ended"
                self.returncode = STATUS.unpack(found)[0]
                self._talk.close()


def run(command: Sequence[Any], *, timeout: float | None = None, **options: Any) -> Any:
    """As `subprocess.run(command, capture_output=True)`, forked."""
    pipe = subprocess.PIPE
    with Forked(command, stdout=pipe, stderr=pipe, **options) as running:
        try:
            out, err = running.communicate(timeout=timeout)
        except BaseException:
            running.kill()
            raise
    return subprocess.CompletedProcess(running.args, running.returncode, out, err)


def pid_of_rank(launcher: int, rank: int) -> int | None:
    """The process of a rank that a forked command of `--devices` has started; None before that.

    The server is its parent, and what the kernel tells of its environment is the server's.
    """
    place = _place_of(launcher, rank)
    return int(place.read_text() or 0) or None if place.exists() else None


def _place_of(launcher: int, rank: int) -> Path:
    return Path(address()).with_name(f"{launcher}.{rank}")


def address() -> str:
    """Where the server listens, which is started by the first who asks in a session of tests."""
    if not _address:
        _address.append(_started())
    return _address[0]


@functools.cache
def _started() -> str:
    folder = tempfile.mkdtemp(prefix="forks_")
    command = [sys.executable, __file__, f"{folder}/socket"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    variables.pop("PYTHONUNBUFFERED", None)  # which would hold for every fork
    pipe = subprocess.PIPE
    server = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, env=variables, start_new_session=True
    )
    assert server.stdin and server.stdout
    atexit.register(_end, server, folder)
    assert server.stdout.readline() == b"ready\n"
    server.stdout.close()
    return f"{folder}/socket"


def _end(server: subprocess.Popen[bytes], folder: str) -> None:
    assert server.stdin
    server.stdin.close()
    server.wait(10)
    shutil.rmtree(folder, ignore_errors=True)


# ---- the server


def serve(place: str) -> None:
    """Import everything, then fork for whoever asks, until the standard input ends."""
    for name in SHORTER:
        importlib.import_module(name)
    sys.path[0] = str(ROOT)
    for name in HEAVY:
        importlib.import_module(name)
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    from local.tuning.workers import pool

    # What commands start their own processes with.
    subprocess_handler.Popen = Forked
    names = ("DEVNULL", "TimeoutExpired")
    given = {name: getattr(subprocess, name) for name in names}
    vars(pool)["subprocess"] = types.SimpleNamespace(Popen=Forked, **given)
    _address.append(place)
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen(64)
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    print("ready", flush=True)
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as waiting:
        for one in (0, listener, woken):
            waiting.register(one, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in waiting.select()]
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 1000)
                _tell_ends(running)
            if listener in ready:
                talk, _ = listener.accept()
                fds, request = _request(talk)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    waiting.close()
                    for end in (woken, wake):
                        os.close(end)
                    for other in (listener, talk, *running.values()):
                        other.close()
                    _become(fds, **request)
                for fd in fds:
                    os.close(fd)
                talk.sendall(STATUS.pack(pid))
                running[pid] = talk
            if 0 in ready:
                return


def _request(talk: socket.socket) -> tuple[list[int], dict[str, Any]]:
    head, fds, _, _ = socket.recv_fds(talk, STATUS.size, 16)
    (size,) = STATUS.unpack(head)
    return fds, json.loads(talk.recv(size, socket.MSG_WAITALL))


def _tell_ends(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as talk, contextlib.suppress(BrokenPipeError):
            talk.sendall(STATUS.pack(os.waitstatus_to_exitcode(status)))


# ---- a forked process


def _become(
    fds: list[int],
    words: list[str],
    folder: str,
    variables: dict[str, str],
    session: bool,
    kept: list[int],
    parent: int,
) -> None:
    """Be a new program: as `python` is where it has no modules, imported or read so far."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if session:
            os.setsid()
        # Out of the way of the numbers that they shall have.
        above = 1 + max(*fds, *kept, 2)
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, above) for fd in fds]
        for fd in fds:
            os.close(fd)
        for number, fd in zip((0, 1, 2, *kept), moved, strict=True):
            os.dup2(fd, number)
            os.close(fd)
        os.environ.clear()
        os.environ.update(variables)
        time.tzset()
        os.chdir(folder)
        tempfile.tempdir = None
        os.getppid = functools.partial(_parent, parent)
        sys.modules["numpy"].random.seed()
        status = _run(words)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _parent(process: int) -> int:
    """Whoever has asked for this process, or the first process once that one has ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return 1
    return process


def _open_streams(unbuffered: bool) -> None:
    """As the interpreter does; those of the server know what theirs are connected to."""
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    for name, number, errors in (("stdout", 1, "strict"), ("stderr", 2, "backslashreplace")):
        raw = open(number, "wb", buffering=0 if unbuffered else -1, closefd=False)  # noqa: SIM115
        lines = number == 2 or raw.isatty()
        stream = io.TextIOWrapper(
            raw, "utf-8", errors, line_buffering=lines, write_through=unbuffered
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(words: list[str]) -> int:
    """Run the program up to its end; its exit status."""
    _, *rest = words
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    if rest[0] == "-u":
        unbuffered, rest = True, rest[1:]
    _open_streams(unbuffered)
    for name, function in SHORTER.items():
        if os.environ.get(sys.modules[name].VARIABLE):
            getattr(sys.modules[name], function)()
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[0:1] = [
        "" if rest[0] == "-c" else str(Path(rest[0]).parent.resolve()),
        *(path for path in given if path not in sys.path or path == str(ROOT)),
    ]
    sys.argv = ["-c", *rest[2:]] if rest[0] == "-c" else rest
    status: Any = 0
    try:
        if rest[0] == "-c":
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(rest[1], "<string>", "exec"), main.__dict__)
        else:
            runpy.run_path(rest[0], run_name="__main__")
    except SystemExit as ended:
        status = ended.code
        if status is None or isinstance(status, int):
            status = status or 0
        else:
            print(status, file=sys.stderr)
            status = 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return int(status) & 0xFF


if __name__ == "__main__":
    serve(sys.argv[1])
