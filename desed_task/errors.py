"""The exception for invalid user input; its messages give value, place and remedy."""

from __future__ import annotations

from collections.abc import Sequence

from desed_task.file_names import printable


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
