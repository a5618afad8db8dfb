"""The optimizer of a configuration, with its groups of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, Final

import torch
from torch.optim import Optimizer

from desed_task.encoders.interface import EmbeddingModel
from desed_task.errors import InputError, count_of
from desed_task.nnet.CRNN import CRNN
from desed_task.nnet.parameter_groups import GroupRates, parameter_groups
from desed_task.schedules import Schedule
from local.config import RecipeConfig
from local.schema.schedules import schedule_of

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
    bounds = [(schedule.max_steps, "this training has")]
    # Half a cosine falls from the end of the warm-up on.
    if schedule.annealing == "quarter_cosine":
        bounds.append((schedule.start_annealing, "there are before training.epoch_decay"))
    known = [(end, until) for end, until in bounds if end is not None]
    if config.opt.warmup_steps is None or not known:
        return schedule
    end, until = min(known)
    if schedule.warmup_steps > end:
        raise InputError(
            f"opt.warmup_steps: {schedule.warmup_steps} are more than the "
            f"{count_of(end, 'step')} that {until}; lower it"
        )
    return schedule


def check_warm_up(config: RecipeConfig, loader: Callable[[], Sized]) -> None:
    """Refuse such a warm-up before a run folder is made.

    Args:
        config: of the training.
        loader: makes a loader of training batches; called only if `opt.warmup_steps` is given.

    Raises:
        InputError: see `check_schedule`.
    """
    if config.opt.warmup_steps is None:
        return
    steps = -(-len(loader()) // config.training.accumulate_batches)
    training, opt = config.training.model_dump(), config.opt.model_dump()
    check_schedule(config, schedule_of(training, opt, steps))
