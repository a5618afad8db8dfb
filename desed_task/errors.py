"""The one exception for wrong input: what the user gave, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(ValueError):
    """A value, file or folder given by the user cannot be used.

    The message states the value, the place and the remedy; scripts print it without a traceback
    and exit with status 2.
    """

    @classmethod
    def collect(
        cls, problems: Sequence[str], heading: str = "", *, most_shown: int = 20
    ) -> InputError:
        """One error for several mistakes, so that all of them can be mended at once.

        Args:
            problems: one message each; must not be empty.
            heading: a line above them, e.g. the file they are in.
            most_shown: further problems are only counted.
        """
        lines = list(problems[:most_shown])
        hidden = len(problems) - len(lines)
        if hidden:
            lines.append(f"... and {hidden} more")
        if not heading:
            return cls("\n".join(lines))
        return cls("\n".join([heading, *(f"  - {line}" for line in lines)]))
