"""Messages for users: invalid input, warnings given once, counts, and the commands to run.

A message gives value, place and remedy.
"""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Hashable, Sequence
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
