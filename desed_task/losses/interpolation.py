"""Interpolation consistency: the student's scores of a mixture against the teacher's mixed scores.

Verma et al. 2019, as the winner of DCASE 2024 Task 4 used it (docs/method.md, Losses).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from desed_task.augment.rows import rowwise
from desed_task.augment.step import RowMix
from desed_task.batch import SourceRoles


class InterpolatedGroup(NamedTuple):
    """Sources whose rows are mixed with each other, as a term of the consistency loss.

    Attributes:
        sources: those of the group that take part in the consistency loss.
        n_kinds: kinds of labels among them (strong, soft, weak, none); the term counts that often.
    """

    sources: tuple[int, ...]
    n_kinds: int


def interpolated_groups(
    roles: SourceRoles, groups: Sequence[Sequence[int]]
) -> tuple[InterpolatedGroup, ...]:
    """The terms of the loss, without groups that have no consistency loss.

    Args:
        roles: kinds of labels, and sources in the consistency loss.
        groups: sources whose rows are mixed with each other.
    """
    consistent = set(roles.consistency)
    members = (tuple(one for one in group if one in consistent) for group in groups)
    return tuple(
        InterpolatedGroup(group, len({_kind(roles, one) for one in group}))
        for group in members
        if group
    )


def interpolated(scores: Tensor, mixed: RowMix) -> Tensor:
    """Scores (batch, ...) of unmixed rows, mixed as the rows were, in [0, 1]."""
    share = rowwise(mixed.share, scores).to(scores.dtype)
    return (share * scores + (1 - share) * scores[mixed.partner]).clamp(0.0, 1.0)


def _kind(roles: SourceRoles, source: int) -> str:
    kinds = (("soft", roles.soft), ("strong", roles.strong), ("weak", roles.weak))
    return next((name for name, sources in kinds if source in sources), "none")
