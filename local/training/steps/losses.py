"""The losses of a configuration: `desed_task.losses` with its weights."""

from __future__ import annotations

from desed_task.augment.groups import pairing_groups
from desed_task.losses.interpolation import interpolated_groups
from desed_task.losses.step_losses import StepLosses
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
