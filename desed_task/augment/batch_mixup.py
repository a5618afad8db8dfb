"""The published mixup: one share per group of corpora and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor

from desed_task.augment.groups import group_of_source, paired
from desed_task.augment.rows import WHOLE_BATCH, BatchShare, moved, rowwise, shuffled
from desed_task.augment.step import StepInputs
from desed_task.batch import SourceRoles
from desed_task.errors import InputError

Labels = Literal["soft", "hard"]
Draw = Literal["joint", "independent"]


class MixupDraw(NamedTuple):
    """One draw of mixup, to be applied to each tensor of a batch."""

    partner: Tensor  # (batch,) int64, the row each row is mixed with
    share: Tensor  # (batch,) float32, weight of the row itself
    mixed: Tensor  # (batch,) bool, False for rows that stay as they are

    def blend(self, x: Tensor) -> Tensor:
        """share * x + (1 - share) * partner's x, for x (batch, ...)."""
        share = rowwise(self.share, x).to(x.dtype)
        return share * x + (1 - share) * x[self.partner]

    def label(self, target: Tensor, labels: Labels) -> Tensor:
        """The blend (soft) or the sum (hard) of targets (batch, ...), clamped to [0, 1]."""
        if labels == "soft":
            return self.blend(target).clamp(0.0, 1.0)
        added = target[self.partner] * rowwise(self.mixed, target)
        return (target + added).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Mixup:
    """Mixup within groups of sources (Zhang et al. 2018; docs/method.md, Training).

    Attributes:
        roles: tell which rows are mixed with each other; rows of no group are not mixed.
        alpha: both parameters of the Beta distribution of the shares, one share per group.
        probability: probability that a call mixes.
        labels: "soft" (weighted) or "hard" (summed).
        draw: "joint" mixes spectrogram, embedding and target by one draw. "independent" is what
            the published code does: a second draw for the embedding, the target mixed by both.

    Raises:
        InputError: for an unknown name, an alpha that is not positive or a probability outside
            [0, 1].
    """

    roles: SourceRoles
    alpha: float = 0.2
    probability: float = 0.5
    labels: Labels = "soft"
    draw: Draw = "joint"

    def __post_init__(self) -> None:
        if self.labels not in get_args(Labels):
            raise InputError(f"training.mixup: unknown {self.labels!r}; known: soft, hard")
        if self.draw not in get_args(Draw):
            raise InputError(
                f"training.mixup_draw: unknown {self.draw!r}; known: joint, independent"
            )
        if not 0 <= self.probability <= 1:
            raise InputError(f"training.mixup_prob: {self.probability} is not in [0, 1]")
        if not self.alpha > 0:
            raise InputError(f"mixup: alpha = {self.alpha} is not positive")

    def __call__(
        self,
        mel: Tensor,
        embedding: Tensor | None,
        target: Tensor,
        source: Tensor,
        generator: Generator | None = None,
        rows: BatchShare = WHOLE_BATCH,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Mix the three tensors of a batch with the given probability.

        Processes that share a batch mix the same batches with the same shares, each among its own
        rows.

        Args:
            mel: (batch, mel, frame) magnitudes, before the decibel step.
            embedding: (batch, feature, token); None or empty if there is none.
            target: (batch, class, frame) in [0, 1].
            source: (batch,) the number of each row's corpus.
            generator: CPU generator; torch's default one if None.
            rows: which rows of a batch these are.

        Returns:
            mel, embedding and target; new tensors if mixed, otherwise those given.
        """
        given = () if embedding is None or not embedding.numel() else (embedding,)
        mel, others, target = self.mix(mel, given, target, source, generator, rows)
        return mel, others[0] if others else embedding, target

    def mix(
        self,
        mel: Tensor,
        others: Sequence[Tensor],
        target: Tensor,
        source: Tensor,
        generator: Generator | None = None,
        rows: BatchShare = WHOLE_BATCH,
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """As a call, with any number of tensors (batch, ...) that are mixed as the embedding is.

        Encoders that run inside the step are given their inputs mixed.
        """
        # As NumPy's number: nothing in a step may ask a tensor for its value, which on a GPU waits.
        if torch.rand((), generator=generator).numpy() >= self.probability:
            return mel, tuple(others), target
        drawn = draw_mixup(source, self.roles, self.alpha, generator, rows)
        mel, target = drawn.blend(mel), drawn.label(target, self.labels)
        if others and self.draw == "independent":
            drawn = draw_mixup(source, self.roles, self.alpha, generator, rows)
            target = drawn.label(target, self.labels)
        return mel, tuple(map(drawn.blend, others)), target

    def of_step(
        self,
        inputs: StepInputs,
        source: Tensor,
        generator: Generator | None = None,
        rows: BatchShare = WHOLE_BATCH,
    ) -> StepInputs:
        """Mix what a network is given in a step; pseudo-labels as the targets are mixed."""
        mel, features, embedding, target, pseudo, _ = inputs
        labels = target if pseudo is None else torch.cat([target, pseudo], 1)
        given = features or ((embedding,) if embedding.numel() else ())
        mel, mixed, labels = self.mix(mel, given, labels, source, generator, rows)
        n_classes = target.shape[1]
        return inputs._replace(
            mel=mel,
            encoder_inputs=mixed if features else (),
            embedding=embedding if features or not mixed else mixed[0],
            target=labels[:, :n_classes],
            pseudo=None if pseudo is None else labels[:, n_classes:],
        )


def draw_mixup(
    source: Tensor,
    roles: SourceRoles,
    alpha: float,
    generator: Generator | None = None,
    rows: BatchShare = WHOLE_BATCH,
) -> MixupDraw:
    """Draw a permutation within each group of mixup, and a share from Beta(alpha, alpha) per group.

    Runs on the device of `source` without synchronising with it.

    Args:
        source: (batch,) the number of each row's corpus.
        roles: give the groups.
        alpha: both parameters of the Beta distribution.
        generator: CPU generator.
        rows: which rows of a batch these are.
    """
    order = shuffled(len(source), generator, rows)
    # Beta(a, a) = X / (X + Y) with X, Y ~ Gamma(a); float64, as both are often near zero.
    n_groups = len(roles.mixup_groups)
    gamma = torch.full((n_groups, 2), alpha, dtype=torch.float64)
    gamma = torch._standard_gamma(gamma, generator=generator)
    kept = torch.ones(1, dtype=torch.float64)
    shares = torch.cat([gamma[:, 0] / gamma.sum(1), kept]).float()
    device = source.device
    table = group_of_source(roles.mixup_groups, roles.n_sources)
    group = moved(table, device)[source]
    return MixupDraw(
        partner=paired(group, moved(order, device)),
        share=moved(shares, device)[group],
        mixed=group < n_groups,
    )
