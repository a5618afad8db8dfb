"""The schedule of learning rates that a configuration describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desed_task.schedules import Schedule


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
