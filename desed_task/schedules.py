"""Training schedules as functions of the step, and a scheduler (docs/method.md, Training).

Optimizer steps are counted from 1.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, NamedTuple

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

WARMUP_EXPONENT: Final = -5.0
LEAST_LR: Final = 1e-8
Warmup = Literal["exp", "linear"]
Annealing = Literal["quarter_cosine", "half_cosine"]


def ramp_up(step: int, warmup_steps: int, warmup: Warmup = "exp") -> float:
    """The warm-up, 1 from `warmup_steps` on or without warm-up.

    exp: exp(-5 (1 - step / warmup_steps)^2); linear: step / warmup_steps.
    """
    if step >= warmup_steps:
        return 1.0
    if warmup == "linear":
        return max(step, 0) / warmup_steps
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
    warmup: Warmup = "exp",
    annealing: Annealing = "quarter_cosine",
) -> float:
    """Factor of the learning rate at `step`.

    quarter_cosine: the ramp up to `start_annealing`, then a quarter of a cosine that reaches
    `least` at `max_steps`. Without warm-up (0 steps) or without the two bounds there is no
    annealing. half_cosine: the ramp, then (1 + cos) / 2 from its end to 0 at `max_steps`, where it
    stays; without `max_steps`, no annealing.

    Args:
        step: counted from 1.
        warmup_steps: length of the ramp.
        start_annealing: step at which the quarter of a cosine starts.
        max_steps: step at which it ends; past it the quarter continues, as published.
        least: floor of the quarter.
        warmup: shape of the ramp.
        annealing: shape of what follows.
    """
    if annealing == "half_cosine":
        ramp = ramp_up(step, warmup_steps, warmup)
        if max_steps is None or step <= warmup_steps:
            return ramp
        past = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
        return 0.5 * (1.0 + math.cos(math.pi * past))
    if start_annealing is None or max_steps is None or warmup_steps == 0:
        return ramp_up(step, warmup_steps, warmup)
    if step <= start_annealing:
        return ramp_up(step, warmup_steps, warmup)
    if max_steps <= start_annealing:
        return least  # nothing is left to anneal over
    phase = (step - start_annealing) / (max_steps - start_annealing)
    return max(least, math.cos(math.pi / 2 * phase))


class Schedule(NamedTuple):
    """How learning rates rise and fall (see `lr_scale`), and the consistency loss rises.

    Attributes:
        warmup_steps, start_annealing, max_steps: optimizer steps.
        warmup: shape of the rates' rise.
        annealing: shape of their fall.
        ramp_steps: steps of the consistency loss's rise; None for those of the warm-up.
    """

    warmup_steps: int
    start_annealing: int | None = None
    max_steps: int | None = None
    warmup: Warmup = "exp"
    annealing: Annealing = "quarter_cosine"
    ramp_steps: int | None = None

    def ramp(self, step: int) -> float:
        """The ramp of the consistency loss at a step: `ramp_up`, "exp" whatever the warm-up is."""
        return ramp_up(step, self.warmup_steps if self.ramp_steps is None else self.ramp_steps)

    def scale(self, step: int, least: float = 0.0) -> float:
        """`lr_scale` at a step."""
        return lr_scale(
            step,
            warmup_steps=self.warmup_steps,
            start_annealing=self.start_annealing,
            max_steps=self.max_steps,
            least=least,
            warmup=self.warmup,
            annealing=self.annealing,
        )


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
        optimizer: its learning rates, one for each group, are those reached after the ramp.
        schedule: fields of `Schedule`.
    """

    def __init__(self, optimizer: Optimizer, **schedule: Any) -> None:
        self.schedule = Schedule(**schedule)
        super().__init__(optimizer)

    @property
    def step_num(self) -> int:
        """The optimizer step being taken, from 1."""
        return self.last_epoch + 1

    @property
    def ramp(self) -> float:
        """The ramp of the consistency loss at the current step, in (0, 1]."""
        return self.schedule.ramp(self.step_num)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each group at the current step."""
        bases = (float(base) for base in self.base_lrs)
        # A rate below the least one, of an encoder's first layers, does not rise to it.
        scales = ((base, min(1.0, LEAST_LR / base)) for base in bases)
        return [base * self.schedule.scale(self.step_num, least) for base, least in scales]

    def state_dict(self) -> dict[str, Any]:
        """The current step."""
        return {"step_num": self.step_num}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step and the learning rates that belong to it."""
        self.last_epoch = int(state_dict["step_num"]) - 1
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr
