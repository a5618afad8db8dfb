"""The losses of a configuration: `desed_task.losses` with its weights."""

from __future__ import annotations

from desed_task.augment.groups import pairing_groups
from desed_task.losses.interpolation import interpolated_groups
from desed_task.losses.step_losses import StepLosses
from desed_task.schedules import consistency_weight, linear_ramp
from local.config import RecipeConfig


def losses_of(config: RecipeConfig) -> StepLosses:
    """The losses of a training step."""
    task, losses = config.detection_task, config.losses
    roles = task.roles
    groups = ()
    if config.training.consistency == "ict":
        groups = interpolated_groups(roles, pairing_groups(roles, across=config.augment.mix_across))
    return StepLosses(
        roles,
        config.training.self_sup_loss,
        corpora={task.corpus(name).number: (name, w) for name, w in losses.corpora.items()},
        weak_consistency=losses.weak_consistency,
        groups=groups,
        pseudo=losses.pseudo,
    )


def weight_of_consistency(config: RecipeConfig, step: int, ramp: float, epoch: int) -> float:
    """Weight of the consistency loss in a step.

    Args:
        config: gives the ramp and the final weight.
        step: optimizer step, counted from 1.
        ramp: that of the warm-up of the learning rate at this step.
        epoch: counted from 0.
    """
    training, losses = config.training, config.losses
    if losses.ramp == "linear":
        return training.const_max * linear_ramp(step, losses.ramp_steps, losses.ramp_most)
    return consistency_weight(
        ramp, epoch, const_max=training.const_max, epoch_decay=training.epoch_decay
    )
