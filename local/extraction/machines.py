"""What processes on several machines must have in common: the weights and the output folder."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from desed_task.dataio.row_stores.forms import StoreForm
from desed_task.dataio.row_stores.unfinished import part_of, parts_of_others
from desed_task.distributed.collectives import gathered
from desed_task.errors import InputError
from local.processes.decisions import decided_by_first
from local.processes.group import Group, group_here
from local.stores.folders import sha256_once

# A network file system may show a new file to other machines after up to a minute.
_SEEN_S, _PAUSE_S = 90.0, 0.05


def common_digest(weights: Path, device: torch.device) -> str:
    """SHA-256 of the weights, which each machine reads once; all processes must compute alike.

    Collective call: every process must reach it.

    Args:
        weights: file of weights.
        device: device of this process.

    Raises:
        InputError: weights or kinds of device differ.
    """
    group = group_here()
    if group is None:
        return sha256_once(weights)
    world = group.world
    own = sha256_once(weights) if world.is_first_here else None
    found = gathered((str(world), platform.node(), device.type, own))
    _, node, kind, digest = found[0]
    for process, other, its_kind, its_digest in found[1:]:
        if its_digest not in (None, digest):
            raise InputError(
                f"{weights}: other weights on {other} than on {node}; give both the same file"
            )
        if its_kind != kind:
            raise InputError(
                f"{process} on {other} computes on {its_kind}, the first one on {kind}, and their "
                "embeddings would differ in their last bits; start processes on one kind of "
                "device, or give --use_gpu 0"
            )
    return str(digest)


def check_shared(path: Path, part: Path, group: Group, form: StoreForm) -> None:
    """Check that the first process sees the unfinished files of the others.

    Collective call: every process must reach it, with its file open.

    Args:
        path: the set's file.
        part: the unfinished file of this process.
        group: the processes.
        form: kind of the file.

    Raises:
        InputError: the folder is another one on another machine.
    """
    places = gathered(f"{os.path.abspath(part)} of {group.world} on {platform.node()}")
    of_others = dict(enumerate(places[1:], 2))
    decided_by_first(lambda: wait_until_seen(path, of_others, form))


def wait_until_seen(path: Path, written: Mapping[int, str], form: StoreForm) -> None:
    """Wait until the unfinished files of other processes are there.

    Args:
        path: the set's file.
        written: number of another process -> its file in words.
        form: kind of the file.

    Raises:
        InputError: a file does not appear.
    """
    end = time.monotonic() + _SEEN_S
    while True:
        # Listed, as network file systems remember that a file was looked up and missing.
        there = set(parts_of_others(path))
        unseen = [number for number in written if part_of(path, number) not in there]
        if not unseen:
            return
        if time.monotonic() > end:
            break
        time.sleep(_PAUSE_S)
    raise InputError(
        f"{os.path.abspath(path.parent)}: the first process does not see {written[unseen[0]]}; "
        "several machines need one folder that all of them share, under the same path "
        f"({form.folder_flag})"
    )
