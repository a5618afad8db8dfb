"""The schedule of learning rates that a configuration describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desed_task.schedules import Schedule, consistency_weight, linear_ramp


def schedule_of(training: Mapping[str, Any], opt: Mapping[str, Any], n_steps: int) -> Schedule:
    """The schedule of a training with `n_steps` optimizer steps per epoch.

    Args:
        training: values of the section `training`.
        opt: values of the section `opt`.
        n_steps: see above.
    """
    ramp, steps = training["n_epochs_warmup"] * n_steps, opt["warmup_steps"]
    return Schedule(
        ramp if steps is None else steps,
        training["epoch_decay"] * n_steps,
        training["n_epochs"] * n_steps,
        opt["warmup"],
        opt["annealing"],
        ramp,
    )


def weight_of_consistency(
    training: Mapping[str, Any], losses: Mapping[str, Any], step: int, ramp: float, epoch: int
) -> float:
    """Weight of the consistency loss in a step.

    Args:
        training: values of the section `training`, for the final weight.
        losses: values of the section `losses`, for the ramp.
        step: optimizer step, counted from 1.
        ramp: that of the warm-up of the learning rate at this step.
        epoch: counted from 0.
    """
    const_max: float = training["const_max"]
    if losses["ramp"] == "linear":
        return const_max * linear_ramp(step, losses["ramp_steps"], losses["ramp_most"])
    return consistency_weight(ramp, epoch, const_max=const_max, epoch_decay=training["epoch_decay"])
