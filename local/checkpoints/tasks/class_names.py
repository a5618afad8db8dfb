"""The flag --init_classes, without heavy imports: which class starts from which of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from desed_task.errors import InputError
from desed_task.labels import near_labels

FLAG: Final = "--init_classes"


def parse_init_classes(entries: Sequence[str], classes: Sequence[str]) -> dict[str, str | None]:
    """The entries of `--init_classes`: class of the task=class of the checkpoint.

    Args:
        entries: e.g. dog=Dog; nothing after the sign for random rows.
        classes: of the task, whose names may contain the sign.

    Raises:
        InputError: an entry is not of that form, or names a class twice.
    """
    found: dict[str, str | None] = {}
    for entry in entries:
        parts = entry.split("=")
        places = range(1, len(parts))
        splits = [("=".join(parts[:at]).strip(), "=".join(parts[at:]).strip()) for at in places]
        own = [pair for pair in splits if pair[0] in classes]
        if not splits:
            raise InputError(f"{FLAG} {entry}: write it as CLASS=CLASS OF THE CHECKPOINT")
        if not own:
            label = splits[0][0]
            raise InputError(
                f"{FLAG} {entry}: the task has no class {label!r}; {near_labels(label, classes)}"
            )
        label, old = own[0]
        if label in found:
            raise InputError(f"{FLAG} {entry}: names {label} twice; give it once")
        found[label] = old or None
    return found
