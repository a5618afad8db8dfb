"""How commands end."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from desed_task.atomic_files import write_text_atomic
from desed_task.errors import InputError
from local.cli.exit_status import StoppedError, run_command


class Broken(Dataset):
    """Clips that cannot be read."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise InputError(f"{index}.wav: contains samples that are not finite; replace the file")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_clip_that_cannot_be_read_is_one_line_from_a_worker_too(num_workers, capsys):
    def read(args):
        return len(list(DataLoader(Broken(), num_workers=num_workers)))

    assert run_command(read, argparse.Namespace()) == 2
    error = "error: 0.wav: contains samples that are not finite; replace the file\n"
    assert capsys.readouterr().err == error


def test_a_list_of_problems_is_told_whole(capsys):
    def refuse(args):
        raise InputError.collect(["a.wav: gone", "b.wav: gone"], "Clips not read:")

    assert run_command(refuse, argparse.Namespace()) == 2
    assert capsys.readouterr().err == "error: Clips not read:\n  - a.wav: gone\n  - b.wav: gone\n"


@pytest.mark.parametrize("target", ["file/below", "folder"])
def test_a_place_that_cannot_be_written_to_is_one_line(target, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    def write(args):
        write_text_atomic(tmp_path / target, "x")
        return 0

    assert run_command(write, argparse.Namespace()) == 2
    place = tmp_path / target.split("/")[0]
    error = capsys.readouterr().err
    assert error.startswith(f"error: {place}: ") and error.count("\n") == 1
    assert error.endswith("; check the path, its permissions and the free space\n")


def test_faults_that_are_ours_are_raised(capsys):
    def fail(args):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "a.wav")

    with pytest.raises(FileNotFoundError):
        run_command(fail, argparse.Namespace())


def test_ctrl_c_ends_with_its_own_status(capsys):
    def wait(args):
        raise KeyboardInterrupt

    assert run_command(wait, argparse.Namespace()) == 130
    assert "run the same command again" in capsys.readouterr().err


URL, SAFE = "https://me:S3cret@host/x?token=S3cret&b=1", "https://me:***@host/x?token=***&b=1"


@pytest.mark.parametrize(
    "error",
    [
        InputError(f"{URL}: not found"),
        InputError.collect([f"{URL}: gone", URL], f"{URL}:"),
        OSError(errno.EACCES, "Permission denied", URL),
        StoppedError(f"{URL}: stopped"),
    ],
)
def test_passwords_are_in_no_message(error, capsys):
    def fail(args):
        warnings.warn(f"{URL} is slow", UserWarning, stacklevel=1)
        raise error

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *found, **_: print(warnings.formatwarning(*found[:4]))
        assert run_command(fail, argparse.Namespace()) in (2, 130)
    said = capsys.readouterr()
    assert "S3cret" not in said.out + said.err
    assert SAFE in said.err and f"warning: {SAFE} is slow" in said.out


def test_passwords_are_in_no_traceback(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    try:
        try:
            raise ValueError(f"no connection to {URL}")
        except ValueError as cause:
            raise KeyError("inner") from cause
    except KeyError as error:
        run_command(lambda args: 0, argparse.Namespace())
        sys.excepthook(KeyError, error, error.__traceback__)
    said = capsys.readouterr().err
    assert "Traceback" in said and SAFE in said and "KeyError: 'inner'" in said
    assert "S3cret" not in said.replace('raise ValueError(f"no connection to {URL}")', "")


def test_control_characters_do_not_reach_the_terminal(capsys):
    def refuse(args):
        warnings.warn("n\x1b[2J: skipped", UserWarning, stacklevel=1)
        raise InputError("n\x1b[31m\udcff\r.wav: is not readable\n  - é")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = warnings.showwarning
        warnings.showwarning = lambda message, *_: print(
            warnings.formatwarning(message, UserWarning, "", 0), end="", file=sys.stderr
        )
        try:
            assert run_command(refuse, argparse.Namespace()) == 2
        finally:
            warnings.showwarning = before
    assert capsys.readouterr().err == (
        "warning: n\\x1b[2J: skipped\nerror: n\\x1b[31m\\xff\\x0d.wav: is not readable\n  - é\n"
    )


PRINTING = """
import argparse, sys
from local.cli.exit_status import run_command
def show(args):
    print("to stdout:", sys.argv[1])
    print("to stderr:", sys.argv[1], file=sys.stderr)
    return 0
sys.exit(run_command(show, argparse.Namespace()))
"""


NAME = "n\udcff é 名"


def assert_shown(text: bytes, encoding: str) -> None:
    shown = text.decode(encoding)
    assert shown.split(":")[1].startswith(r" n\xff ") and "\ufffd" not in shown


@pytest.mark.parametrize(
    ("encoding", "errors"),
    [("ascii", "strict"), ("latin-1", "strict"), ("utf-8", "surrogateescape"), ("utf-8", "strict")],
)
def test_any_name_is_printed_in_any_encoding(encoding, errors, monkeypatch):
    streams = {
        name: io.TextIOWrapper(io.BytesIO(), encoding, of, write_through=True)
        for name, of in (("stdout", errors), ("stderr", "backslashreplace"))
    }
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)

    def show(args):
        for stream in streams.values():
            print("to a stream:", NAME, file=stream)
        return 0

    assert run_command(show, argparse.Namespace()) == 0
    for stream in streams.values():
        assert_shown(stream.buffer.getvalue(), encoding)


def test_any_name_is_printed_by_a_process_of_another_encoding():
    encoding = "ascii"
    done = subprocess.run(
        [sys.executable, "-c", PRINTING, NAME.encode("utf-8", "surrogateescape")],
        env={
            **os.environ,
            "PYTHONIOENCODING": encoding,
            "PYTHONPATH": str(Path(__file__).parents[3]),
        },
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, done.stderr):
        assert_shown(text, encoding)


def fail(text):
    raise RuntimeError(text)


def log_exception(text):
    try:
        fail(text)
    except RuntimeError:
        logging.getLogger("of.a.library").exception("failed")


@pytest.mark.parametrize(
    "tell",
    [
        lambda text: logging.getLogger("urllib3.pool").warning("Retrying after %r", text),
        lambda text: logging.getLogger("of.a.library").error("%s of %d", text, 3),
        lambda text: logging.getLogger("of.a.library").error({"url": text}),
        log_exception,
        lambda text: threading.Thread(target=fail, args=(text,)).start(),
    ],
    ids=["lazy", "arguments", "object", "exception", "thread"],
)
def test_what_libraries_print_is_redacted(tell, monkeypatch, capfd):
    for module, name in (
        (sys, "excepthook"),
        (threading, "excepthook"),
        (warnings, "formatwarning"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    factory, handler = logging.getLogRecordFactory(), logging.StreamHandler()
    logging.getLogger("urllib3.pool").addHandler(handler)
    logging.getLogger("of.a.library").addHandler(handler)

    def command(args):
        others = threading.enumerate()  # Such as one of xdist, which does not end.
        tell("https://me:S3cret@host/x")
        for thread in {*threading.enumerate()} - {*others}:
            thread.join(5)
        return 0

    try:
        assert run_command(command, argparse.Namespace()) == 0
    finally:
        logging.setLogRecordFactory(factory)
        logging.getLogger("urllib3.pool").removeHandler(handler)
        logging.getLogger("of.a.library").removeHandler(handler)
    told = capfd.readouterr().err
    assert "https://me:***@host/x" in told and "S3cret" not in told


@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError(
            "The operator 'aten::x' is not currently implemented for the MPS device"
        ),
        TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework has none"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)\nmore"),
        RuntimeError("Adaptive pool MPS: input sizes must be divisible by output sizes"),
    ],
)
def test_what_a_mac_s_gpu_cannot_compute_is_one_line(error, capsys):
    def compute(_args):
        raise error

    assert run_command(compute, argparse.Namespace()) == 2
    told = capsys.readouterr().err
    assert told.startswith(
        f"error: {str(error).splitlines()[0]}; a limit of PyTorch on a Mac's GPU"
    )
    assert "--gpus 0" in told and told.count("\n") == 1


@pytest.mark.parametrize(
    "error", [RuntimeError("/data/MPS/a.wav"), TypeError("no"), KeyError("MPS")]
)
def test_other_errors_keep_their_traceback(error):
    def compute(_args):
        raise error

    with pytest.raises(type(error)):
        run_command(compute, argparse.Namespace())
