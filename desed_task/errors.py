"""Messages for users: the exception for invalid input, warnings given once, and counts.

A message gives value, place and remedy.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence

from desed_task.file_names import printable

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
        lines = list(problems[:most_shown])
        hidden = len(problems) - len(lines)
        if hidden:
            lines.append(f"... and {hidden} more")
        if not heading:
            return cls("\n".join(lines))
        return cls("\n".join([heading, *(f"  - {line}" for line in lines)]))


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
