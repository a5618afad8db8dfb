"""Messages for users: invalid input, a full disk, warnings given once, counts, commands to run.

A message gives value, place and remedy.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

from desed_task.file_names import current_folder, looked_up_from, printable

# The console command of each script of the recipe (pyproject.toml, project.scripts).
CONSOLE_COMMANDS = {
    "generate_dcase_task4_2024.py": "desed-generate",
    "extract_embeddings.py": "desed-extract",
    "train_pretrained.py": "desed-train",
    "predict.py": "desed-predict",
    "optuna_pretrained.py": "desed-tune",
    "summarize_runs.py": "desed-summarize",
    "make_submission.py": "desed-submit",
}
# Set by a console command for itself and the processes that it starts.
STARTED_BY_CONSOLE = "DESED_CONSOLE_COMMAND"


def command_name(script: str) -> str:
    """What a message calls a command: its script, or `desed-...` where that is how to start it.

    The console command is named if the user has started one, and where the package was installed
    without the scripts beside it. It never changes while a process runs.

    Args:
        script: file name of a script, one of `CONSOLE_COMMANDS`.
    """
    beside = Path(__file__).resolve().parents[1] / script
    if STARTED_BY_CONSOLE in os.environ or not beside.is_file():
        return CONSOLE_COMMANDS[script]
    return script


def command_line(script: str, arguments: str = "") -> str:
    """A command as the user can run it from where they are, for copying.

    Args:
        script: file name of a script, one of `CONSOLE_COMMANDS`.
        arguments: the rest of the line, quoted for a shell where it has to be.

    Returns:
        `desed-train ARGUMENTS`, or `python train_pretrained.py ARGUMENTS` with the folder that the
        running script was started with.
    """
    words = command_name(script)
    if words == script:
        running = Path(sys.argv[0])
        there = running.with_name(script) if running.name in CONSOLE_COMMANDS else script
        words = f"python {shlex.quote(str(there))}"
    return f"{words} {arguments}".rstrip()


_given: set[Hashable] = set()

FULL_ERRNOS = frozenset((errno.ENOSPC, errno.EDQUOT))
# What libraries say of a full disk without its errno: PyTorch, SQLite.
_FULL = re.compile("No space left on device|Disk quota exceeded|disk is full")
# What they say of any write that was cut short: PyTorch, NumPy, libsndfile, HDF5.
_CUT_SHORT = re.compile(
    r"unexpected pos \d+ vs|iostream error|PytorchStreamWriter failed|\d+ requested and \d+ written"
    "|System error|write failed|short write"
)
# The memory that the workers of data loaders share is a file system, too, but no disk.
_SHARED_MEMORY = re.compile("</?torch_|shared memory object")
_FILE_OF_HDF5 = re.compile("filename = '([^']+)'")
# Less than this is left if a write was cut short for want of space.
_LITTLE_BYTES = 1 << 20


class InputError(ValueError):
    """A value, file or folder given by the user cannot be used.

    The message states the value, the place and the remedy; scripts print it without a traceback
    and exit with status 2. As text it can be encoded and printed, whatever the names in it.
    """

    def __str__(self) -> str:
        return printable(super().__str__())

    @classmethod
    def collect(
        cls, problems: Sequence[str], heading: str = "", *, most_shown: int = 20
    ) -> InputError:
        """Combine several problems in one error, so that all of them can be fixed at once.

        Args:
            problems: messages, at least one.
            heading: a line above them, e.g. the file they are in.
            most_shown: number of problems listed; further ones are only counted.
        """
        where = looked_up_from("")
        several = sum(where in problem for problem in problems) > 1
        if several:  # told once, below
            problems = [problem.replace(where, "") for problem in problems]
        lines = list(problems[:most_shown])
        hidden = len(problems) - len(lines)
        if hidden:
            lines.append(f"... and {hidden} more")
        if heading:
            lines = [heading, *(f"  - {line}" for line in lines)]
        if several:
            lines.append(f"relative paths are looked up from {current_folder()}")
        return cls("\n".join(lines))


def warn_once(message: str, subject: Hashable = None, *, stacklevel: int = 1) -> None:
    """Give a warning about data that is read or scored again and again, once per command.

    Python repeats a warning whenever a library changes its filters, as PyTorch does in each epoch.

    Args:
        message: the text.
        subject: what it is about, if its text may change, e.g. with the number of clips that are
            scored; None for the text itself.
        stacklevel: as of `warnings.warn`, counted from the caller.
    """
    if (key := message if subject is None else subject) not in _given:
        _given.add(key)
        warnings.warn(message, UserWarning, stacklevel=stacklevel + 1)


def forget_warnings() -> None:
    """Give all warnings of `warn_once` again, as another command begins."""
    _given.clear()


def count_of(number: int, singular: str, plural: str | None = None) -> str:
    """A number and what it counts: "1 recording", "2 recordings", "1 event overlaps".

    Args:
        number: the number.
        singular: the noun, or noun and verb, for one.
        plural: the same for other numbers; None if it only takes an s.
    """
    return f"{number} {agree(number, singular, plural or f'{singular}s')}"


def agree(number: int, singular: str, plural: str) -> str:
    """The form that agrees with a number: `f"{n} of {total} {agree(n, 'is', 'are')} silent"`."""
    return singular if number == 1 else plural


def loading_reason(error: BaseException) -> str:
    """Why PyTorch could not load a file, in one line, for a message.

    Its text for a file with other objects advises to load it in a way that runs what is in it.
    """
    reason = next(iter(str(error).splitlines()), "").strip() or type(error).__name__
    if "weights_only" in reason or "Weights only" in reason:
        return "it contains more than tensors and plain values"
    return reason


class DiskFullError(OSError):
    """A file system has no space left, or a quota is used up. Its text says so, and where.

    Args:
        number: ENOSPC or EDQUOT.
        path: what was being written, or its folder.
    """

    def __init__(self, number: int, path: str) -> None:
        super().__init__(number, os.strerror(number), path)
        # Now: what was written in part is removed soon.
        self.space = _space_text(Path(path))

    def __reduce__(self) -> tuple[type[DiskFullError], tuple[int | None, str], dict[str, str]]:
        return DiskFullError, (self.errno, str(self.filename)), {"space": self.space}

    def __str__(self) -> str:
        what = "the disk quota is used up" if self.errno == errno.EDQUOT else "the disk is full"
        return printable(f"{self.filename}: {what} ({self.strerror}){self.space}")


def disk_full(
    error: BaseException, path: str | os.PathLike[str] | None = None
) -> DiskFullError | None:
    """The error of a full disk that another one stands for or was raised from; None for others.

    Args:
        error: an error of any library.
        path: what was being written when it was raised, if known. Some libraries only say that not
            all was written; then the disk is looked at.
    """
    for one in _chain(error):
        if isinstance(one, DiskFullError):
            return one
        text = str(one)
        number = getattr(one, "errno", None)
        if number in FULL_ERRNOS or _FULL.search(text):
            if _SHARED_MEMORY.search(text):
                return None
            # The text of an OSError may contain a path, which may contain any word.
            used_up = number == errno.EDQUOT or (number is None and "quota exceeded" in text)
            place = _file_of(one) or path or os.curdir
            return DiskFullError(errno.EDQUOT if used_up else errno.ENOSPC, os.fspath(place))
        if path is not None and _CUT_SHORT.search(text) and free_bytes(path) < _LITTLE_BYTES:
            return DiskFullError(errno.ENOSPC, os.fspath(path))
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from or after."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        # SQLAlchemy keeps the database's own error as `orig`.
        others = (one.__cause__, one.__context__, getattr(one, "orig", None))
        left += [other for other in others if isinstance(other, BaseException)]


def _file_of(error: BaseException) -> str | None:
    """The file that an error names, the target of a copy rather than its source."""
    for name in ("filename2", "filename"):
        named = getattr(error, name, None)
        if isinstance(named, str | bytes | os.PathLike):
            return os.fsdecode(named)
    found = _FILE_OF_HDF5.search(str(error))
    return found[1] if found else None


def _folder_of(path: Path) -> Path:
    """The first folder above a path that exists."""
    return next((one for one in (path, *path.absolute().parents) if os.path.isdir(one)), path)


def free_bytes(path: str | os.PathLike[str]) -> int:
    """Free space for a file or folder, which need not exist."""
    return shutil.disk_usage(_folder_of(Path(path))).free


def _space_text(path: Path) -> str:
    try:
        folder = _folder_of(path)
        space = shutil.disk_usage(folder)
    except OSError:
        return ""
    place = folder.absolute()
    while not os.path.ismount(place):
        place = place.parent
    return f": {space.free / 1e6:.1f} MB of {space.total / 1e6:.1f} MB are free on {place}"
