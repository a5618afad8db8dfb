"""Revision of the training rules, which a resumed run must share with its checkpoint.

Increased whenever a training with the same configuration and data would end with other weights or
another best checkpoint. Files without a revision have revision 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REVISION: Final = 2
REVISION_KEY: Final = "training_revision"
CHANGES: Final[Mapping[int, tuple[str, ...]]] = {
    2: (
        "MAESTRO training clips are held out by recording, no longer by clip",
        "dropout also acts on the output of the BiGRU",
        "the teacher is updated before the optimizer's step, no longer after it",
        "clips without events in a strong table are left out",
        "bounds of time dropping are rounded down, and net.dropstep_scope chooses its scope",
        "labels shift by the onset of a crop rounded to 1 ms",
        "scaler instance/standard divides by the sample deviation",
        "validation on MAESTRO takes the maximum of a segment, of clips with scored events",
        "frame boundaries and the intersection F1 of validation are rounded as published",
    ),
}


def revision_of(stored: Mapping[str, Any]) -> int:
    """The training revision stored in a checkpoint or a record of a run."""
    revision = stored.get(REVISION_KEY, 1)
    return revision if type(revision) is int else 1


def changes_since(revision: int) -> list[str]:
    """What changed after `revision`, one line per change."""
    return [line for number in sorted(CHANGES) if number > revision for line in CHANGES[number]]
