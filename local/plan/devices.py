"""The devices of a plan: a stage runs on each at a time."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from desed_task.errors import InputError, agree
from desed_task.parallel import available_cores
from local.cli.devices import choose_device, count_gpus
from local.plan.reading import RecipePlan
from local.processes.world import world_here
from local.tuning.workers.device_slots import (
    VISIBLE_VARIABLE,
    DeviceSlot,
    choose_slots,
    visible_gpus,
)


def slots_for(
    plan: RecipePlan, args: argparse.Namespace, outside: Mapping[str, str]
) -> list[DeviceSlot]:
    """A slot for each stage that may run at a time.

    Args:
        plan: its `jobs` count on a machine without a GPU.
        args: `gpus`, `devices` and `threads` of the command.
        outside: the environment.

    Raises:
        InputError: there are no such devices, or torchrun or SLURM has started several processes.
    """
    if world_here().several:
        raise InputError(
            "--plan: torchrun or SLURM has started several processes; start one, and choose GPUs "
            "with --devices"
        )
    gpus, threads = args.gpus, args.threads
    if gpus is not None:
        choose_device(gpus)  # refuses GPUs that do not exist
        names = visible_gpus(outside, count_gpus)
        chosen = names[int(gpus) - 1] if int(gpus) else ""
        outside = {**outside, VISIBLE_VARIABLE: chosen}
    given = {"threads": threads, "outside": outside}
    if args.devices is None and not visible_gpus(outside, count_gpus):
        cores = available_cores()
        if plan.jobs > cores:
            raise InputError(
                f"{plan.path}: jobs is {plan.jobs}, and this machine has {cores} usable "
                f"{agree(cores, 'core', 'cores')}; give at most as many"
            )
        return choose_slots(plan.jobs, 1, **given)
    return choose_slots(None, 1, devices=args.devices, **given)
