"""The optimizer of a configuration, with its groups of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch.optim import Optimizer

from desed_task.encoders.interface import EmbeddingModel
from desed_task.errors import InputError, count_of
from desed_task.nnet.CRNN import CRNN
from desed_task.nnet.parameter_groups import GroupRates, parameter_groups
from desed_task.schedules import Schedule
from local.config import RecipeConfig

_OPTIMIZERS: Final[Mapping[str, type[torch.optim.Adam]]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def make_optimizer(
    config: RecipeConfig, network: CRNN, encoder: EmbeddingModel | None, *, fused: bool
) -> Optimizer:
    """The optimizer of the student, all of whose trained parameters are in exactly one group.

    Without rates of their own, all parameters of the network are one group.

    Args:
        config: its sections `opt` and `pretrained`.
        network: the CRNN.
        encoder: runs inside the step; trained unless `pretrained.freezed`.
        fused: whether one kernel updates all parameters.
    """
    opt = config.opt
    tuned = () if encoder is None or config.pretrained.freezed else encoder.parts
    own = opt.lr_cnn, opt.lr_rnn, opt.lr_heads
    params: Any = network.parameters()
    if tuned or any(own):
        rates = (opt.lr if rate is None else rate for rate in own)
        layers = {part.name: part.layer_groups() for part in tuned}
        rates_of_groups = GroupRates(*rates, opt.lr_encoder, opt.layer_decay)
        params = parameter_groups(network, layers, rates_of_groups)
    return _OPTIMIZERS[opt.optimizer](params, opt.lr, weight_decay=opt.weight_decay, fused=fused)


def rates_by_part(groups: Sequence[Mapping[str, Any]], rates: Sequence[Any]) -> dict[str, Any]:
    """Part -> learning rate, of each part of a network and the last layers of each encoder.

    Args:
        groups: of the optimizer, in the order of the rates.
        rates: one for each group.
    """
    found: dict[str, Any] = {}
    for group, rate in zip(groups, rates, strict=True):
        if "name" in group:
            found.setdefault(group["name"].split()[0], rate)
    return found


def check_schedule(config: RecipeConfig, schedule: Schedule) -> Schedule:
    """Refuse a warm-up that is longer than what it is followed by allows.

    Raises:
        InputError: naming both numbers of steps.
    """
    half = schedule.annealing == "half_cosine"
    end = schedule.max_steps if half else schedule.start_annealing
    if config.opt.warmup_steps is not None and end is not None and schedule.warmup_steps > end:
        until = "this training has" if half else "there are before training.epoch_decay"
        raise InputError(
            f"opt.warmup_steps: {schedule.warmup_steps} are more than the "
            f"{count_of(end, 'step')} that {until}; lower it"
        )
    return schedule
