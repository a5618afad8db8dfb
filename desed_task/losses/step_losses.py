"""All losses of a training step, with the weights of a configuration (docs/method.md, Losses)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import torch
from torch import Tensor

from desed_task.augment.step import AugmentedStep
from desed_task.batch import SourceRoles
from desed_task.losses.interpolation import InterpolatedGroup, interpolated
from desed_task.mean_teacher import (
    DetectionLosses,
    SelfSupLoss,
    bce_by_row,
    detection_losses,
    row_comparison,
    row_means,
    rows_from,
)
from desed_task.nnet.CRNN import Detection, at_least_float32

# The published loss of interpolation is a quarter of that of the mean teacher.
ICT_SHARE: Final = 0.25

# (batch,) values, and (batch,) bool, the rows over which their mean is taken.
_RowTerm = tuple[Tensor, Tensor]


class LossTerms(NamedTuple):
    """The losses of a step.

    Attributes:
        losses: under the names that are logged in every training; `loss` is the sum of all.
        others: name that is logged -> term, of those that a configuration adds.
    """

    losses: DetectionLosses
    others: Mapping[str, Tensor]


@dataclass(frozen=True)
class StepLosses:
    """Supervised, consistency and pseudo-label losses of a step.

    With nothing but roles these are the published ones (`detection_losses`).

    Attributes:
        roles: which sources each term takes.
        self_sup_loss: what compares student and teacher, "mse" or "bce".
        corpora: source -> name and weight of its supervised loss, for every source with labels;
            empty: one mean over all rows with events, and one over weakly labelled ones.
        weak_consistency: weight of the clips' scores beside the frames' in the consistency loss.
        groups: terms of the interpolation consistency, for steps whose rows were mixed for the
            student alone; empty where there are none.
        pseudo: weight of the pseudo-label loss; 0: there is none.
    """

    roles: SourceRoles
    self_sup_loss: SelfSupLoss = "mse"
    corpora: Mapping[int, tuple[str, float]] = field(default_factory=dict)
    weak_consistency: float = 1.0
    groups: tuple[InterpolatedGroup, ...] = ()
    pseudo: float = 0.0

    @property
    def are_published(self) -> bool:
        """Whether nothing differs from the published losses."""
        return not (self.corpora or self.groups or self.pseudo) and self.weak_consistency == 1.0

    def __call__(
        self,
        student: Detection,
        teacher: Detection,
        step: AugmentedStep,
        source: Tensor,
        *,
        weight: float,
    ) -> LossTerms:
        """The losses of a batch whose rows come from any sources.

        A term without rows is 0, with a gradient of zeros. Classes that are unknown after mixup
        add no loss. If a batch is shared by several processes, means are over all of its rows.

        Args:
            student: scores of the student, with unknown classes masked.
            teacher: scores of the teacher; no gradient flows into them.
            step: targets, pseudo-labels and known classes of the student's rows, and what they
                were mixed with where the teacher's were not.
            source: (batch,) the number of each row's corpus.
            weight: weight of the consistency terms.
        """
        if self.are_published:
            target, known = step.student.target, step.student.known
            return LossTerms(
                detection_losses(
                    *(student, teacher, target, known, source, self.roles),
                    weight=weight,
                    self_sup_loss=self.self_sup_loss,
                ),
                {},
            )
        supervised = self._supervised(student, step, source)
        consistency = self._consistency(student, teacher, step, source)
        pseudo = self._pseudo(student, step, source)
        # One exchange between the processes.
        means = iter(row_means([*supervised, *consistency, *pseudo]))
        strong, weak, others = self._weighted([next(means) for _ in supervised], student)
        strong_self, weak_self, *of_groups = (next(means) for _ in consistency)
        compared = weight * (strong_self + self.weak_consistency * weak_self)
        if self.groups:
            others["ict_loss"] = weight * self._interpolation(of_groups)
            compared = compared + others["ict_loss"]
        loss = strong + weak + compared
        if self.pseudo:
            others["pseudo_loss"] = self.pseudo * self._of_pseudo([next(means) for _ in pseudo])
            loss = loss + others["pseudo_loss"]
        return LossTerms(
            DetectionLosses(
                loss=loss,
                loss_strong=strong,
                loss_weak=weak,
                tot_supervised=strong + weak,
                strong_self_sup_loss=strong_self,
                weak_self_sup_loss=weak_self,
                tot_self_loss=compared,
                weight=weight,
            ),
            others,
        )

    # ---- labels

    def _supervised(
        self, student: Detection, step: AugmentedStep, source: Tensor
    ) -> list[_RowTerm]:
        """One term per corpus, or one for events and one for weak labels."""
        known = step.student.known.unsqueeze(-1)
        target = at_least_float32(step.student.target) * known
        weak_target = (target > 0).any(-1).to(target.dtype)
        strong = bce_by_row(student.strong, target)
        weak = bce_by_row(student.weak, weak_target)
        if not self.corpora:
            of_kinds = ((strong, self.roles.strong), (weak, self.roles.weak))
            return [(loss, rows_from(source, sources)) for loss, sources in of_kinds]
        return [
            (strong if one in self.roles.strong else weak, rows_from(source, (one,)))
            for one in self.corpora
        ]

    def _weighted(
        self, means: list[Tensor], student: Detection
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The losses of events and of weak labels, and those of each corpus by name."""
        if not self.corpora:
            return means[0], means[1], {}
        by_source = dict(zip(self.corpora, means, strict=True))
        strong = [one for one in self.corpora if one in self.roles.strong]
        weak = [one for one in self.corpora if one not in self.roles.strong]

        def mean_of(sources: list[int]) -> Tensor:
            weighted = (self.corpora[one][1] * by_source[one] for one in sources)
            return _sum(weighted, student.strong) / max(len(sources), 1)

        # Corpora may be called strong or weak: not `loss_...`, as the sums over them.
        named = {f"loss_of_{self.corpora[one][0]}": by_source[one] for one in self.corpora}
        return mean_of(strong), mean_of(weak) / 2, named

    # ---- consistency

    def _consistency(
        self, student: Detection, teacher: Detection, step: AugmentedStep, source: Tensor
    ) -> list[_RowTerm]:
        """Frames and clips against the teacher's; then the same for each group of mixup.

        In every step there are all terms, with the same rows, and a row counts in one kind, 0 in
        the other: processes that draw mixup for themselves do not all interpolate in the same step.
        """
        compare, known = row_comparison(self.self_sup_loss), step.student.known
        scores = (teacher.strong.detach(), teacher.weak.detach())
        mixed = step.mixed if self.groups else None
        if mixed is not None:
            scores = (interpolated(scores[0], mixed), interpolated(scores[1], mixed))
        strong = compare(student.strong, scores[0] * known.unsqueeze(-1))
        weak = compare(student.weak, scores[1] * known)
        paired = rows_from(source, [one for group in self.groups for one in group.sources])
        # Rows that are not mixed have the mean teacher in every step.
        is_blended = paired if mixed is not None else torch.zeros_like(paired)
        alike = [one.masked_fill(is_blended, 0.0) for one in (strong, weak)]
        blended = [one.masked_fill(~is_blended, 0.0) for one in (strong, weak)]
        rows = rows_from(source, self.roles.consistency)
        found = [(one, rows) for one in alike]
        for group in self.groups:
            rows = rows_from(source, group.sources)
            found += [(one, rows) for one in blended]
        return found

    def _interpolation(self, means: list[Tensor]) -> Tensor:
        """The loss of interpolation, before the weight of consistency."""
        pairs = zip(self.groups, means[::2], means[1::2], strict=True)
        terms = (group.n_kinds * (strong + weak / 2) for group, strong, weak in pairs)
        n_kinds = sum(group.n_kinds for group in self.groups)
        return ICT_SHARE * _sum(terms, means[0]) / (2 * n_kinds)

    # ---- pseudo-labels

    def _pseudo(self, student: Detection, step: AugmentedStep, source: Tensor) -> list[_RowTerm]:
        """Rows of corpora without soft labels, unlabelled ones too, and rows with soft labels."""
        if not self.pseudo:
            return []
        labels = step.student.pseudo
        assert labels is not None, "training reads pseudo-labels where they have a weight"
        labels = at_least_float32(labels) * step.student.known.unsqueeze(-1)
        by_row = bce_by_row(student.strong, labels)
        soft = rows_from(source, self.roles.soft)
        return [(by_row, ~soft), (by_row, soft)]

    def _of_pseudo(self, means: list[Tensor]) -> Tensor:
        soft = set(self.roles.soft)
        weights = [0.0, 0.0] if self.corpora else [1.0, 1.0]
        for one, (_, weight) in self.corpora.items():
            weights[one in soft] += weight
        return weights[0] * means[0] + weights[1] * means[1]


def _sum(terms: Iterable[Tensor], like: Tensor) -> Tensor:
    total = like.new_zeros(())
    for term in terms:
        total = total + term
    return total
