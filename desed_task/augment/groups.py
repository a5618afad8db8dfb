"""Groups of rows that share a draw or are paired with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from desed_task.augment.rows import BatchShare, moved, shuffled
from desed_task.batch import SourceRoles

Groups = Sequence[Sequence[int]]


class RowGroups(NamedTuple):
    """The groups of the rows of a batch.

    Attributes:
        number: (batch,) the group of each row, on the device of the batch; `n_groups` for rows of
            none, which are not paired but share draws with each other.
        n_groups: number of groups.
    """

    number: Tensor
    n_groups: int

    @classmethod
    def of(cls, source: Tensor, groups: Groups, n_sources: int) -> RowGroups:
        """The groups of rows of these sources (batch,)."""
        table = moved(group_of_source(groups, n_sources), source.device)
        return cls(table[source], len(groups))

    @property
    def n_draws(self) -> int:
        """How many values a draw for each group has: one more, for rows of none."""
        return self.n_groups + 1

    def of_rows(self, values: Tensor) -> Tensor:
        """Of values for each group (group, ...) on the CPU, those of the rows (batch, ...)."""
        return moved(values, self.number.device)[self.number]

    def partners(self, generator: Generator | None, rows: BatchShare) -> Tensor:
        """(batch,) a row of the same group for each row, drawn; of no group, the row itself."""
        order = moved(shuffled(len(self.number), generator, rows), self.number.device)
        itself = torch.arange(len(self.number), device=self.number.device)
        return torch.where(self.number < self.n_groups, paired(self.number, order), itself)


def pairing_groups(roles: SourceRoles, *, across: bool) -> tuple[tuple[int, ...], ...]:
    """The sources whose rows are mixed with each other.

    Args:
        roles: of the sources.
        across: all strongly labelled sources with each other, and so the weakly labelled and the
            unlabelled ones; otherwise `mixup_groups`.
    """
    if not across:
        return roles.mixup_groups
    return tuple(one for one in (roles.strong, roles.weak, roles.unlabelled) if one)


def group_of_source(groups: Groups, n_sources: int) -> Tensor:
    """(source,) index of its group, or the number of groups for sources of none."""
    table = torch.full((n_sources,), len(groups))
    for group, sources in enumerate(groups):
        table[list(sources)] = group
    return table


def paired(group: Tensor, order: Tensor) -> Tensor:
    """(batch,) a row of the same group for each row.

    Args:
        group: (batch,) the group of each row.
        order: (batch,) a permutation of the rows.
    """
    # Both orders list the rows by group, the second one shuffled: that pairs rows within groups.
    ordered = group.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    return torch.empty_like(ordered).scatter(0, ordered, order)


def larger_shares(
    n_rows: int, alpha: float, generator: Generator | None, rows: BatchShare
) -> Tensor:
    """(own row,) max(c, 1 - c) with c from Beta(alpha, alpha) for each row; float32, on the CPU."""
    # Beta(a, a) = X / (X + Y) with X, Y ~ Gamma(a); float64, as both are often near zero.
    gamma = torch.full((rows.total(n_rows), 2), alpha, dtype=torch.float64)
    gamma = torch._standard_gamma(gamma, generator=generator)
    share = gamma[:, 0] / gamma.sum(1)
    return rows.own(torch.maximum(share, 1 - share).float())
