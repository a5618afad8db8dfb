"""Training schedules as functions of the step, and a scheduler (docs/method.md, Training).

Optimizer steps are counted from 1.
"""

from __future__ import annotations

import math
from typing import Any, Final

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

WARMUP_EXPONENT: Final = -5.0
LEAST_LR: Final = 1e-8


def ramp_up(step: int, warmup_steps: int) -> float:
    """exp(-5 (1 - step / warmup)^2) up to `warmup_steps`, 1 afterwards or without warm-up."""
    if step >= warmup_steps:
        return 1.0
    return math.exp(WARMUP_EXPONENT * (1.0 - max(step, 0) / warmup_steps) ** 2)


def linear_ramp(step: int, ramp_steps: int, most: float) -> float:
    """step / ramp_steps, at most `most`: a ramp that may rise past 1."""
    return min(max(step, 0) / ramp_steps, most)


def lr_scale(
    step: int,
    *,
    warmup_steps: int,
    start_annealing: int | None = None,
    max_steps: int | None = None,
    least: float = 0.0,
) -> float:
    """Factor of the learning rate at `step`.

    The ramp up to `start_annealing`, then a quarter of a cosine that reaches `least` at
    `max_steps`. Without warm-up (0 steps) or without the two bounds there is no annealing.

    Args:
        step: counted from 1.
        warmup_steps: length of the ramp.
        start_annealing: step at which the cosine starts.
        max_steps: step at which it ends; past it the cosine continues, as published.
        least: floor of the cosine part.
    """
    if start_annealing is None or max_steps is None or warmup_steps == 0:
        return ramp_up(step, warmup_steps)
    if step <= start_annealing:
        return ramp_up(step, warmup_steps)
    if max_steps <= start_annealing:
        return least  # nothing is left to anneal over
    phase = (step - start_annealing) / (max_steps - start_annealing)
    return max(least, math.cos(math.pi / 2 * phase))


def consistency_weight(ramp: float, epoch: int, *, const_max: float, epoch_decay: int) -> float:
    """Weight of the consistency loss: `const_max` times the ramp, then `const_max`.

    Args:
        ramp: `ramp_up` at the current step.
        epoch: counted from 0.
        const_max: final weight.
        epoch_decay: first epoch that ignores the ramp.
    """
    return const_max * ramp if epoch < epoch_decay else const_max


class RampedScheduler(LRScheduler):
    """Scales each group's learning rate by `lr_scale`; to be stepped after every optimizer step.

    Its state is the step alone: a resumed run follows the schedule it is configured with. The
    state of a published checkpoint loads too.

    Args:
        optimizer: its learning rates are those reached after the ramp.
        warmup_steps, start_annealing, max_steps: see `lr_scale`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        warmup_steps: int,
        start_annealing: int | None = None,
        max_steps: int | None = None,
    ) -> None:
        self.warmup_steps = warmup_steps
        self.start_annealing = start_annealing
        self.max_steps = max_steps
        super().__init__(optimizer)

    @property
    def step_num(self) -> int:
        """The optimizer step being taken, from 1."""
        return self.last_epoch + 1

    @property
    def ramp(self) -> float:
        """The warm-up ramp at the current step, in (0, 1]."""
        return ramp_up(self.step_num, self.warmup_steps)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each group at the current step."""
        bases = (float(base) for base in self.base_lrs)
        return [base * self._scale(LEAST_LR / base) for base in bases]

    def _scale(self, least: float) -> float:
        return lr_scale(
            self.step_num,
            warmup_steps=self.warmup_steps,
            start_annealing=self.start_annealing,
            max_steps=self.max_steps,
            least=least,
        )

    def state_dict(self) -> dict[str, Any]:
        """The current step."""
        return {"step_num": self.step_num}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step and the learning rates that belong to it."""
        self.last_epoch = int(state_dict["step_num"]) - 1
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr
