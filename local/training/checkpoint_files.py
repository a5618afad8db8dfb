"""How checkpoints are written to disk."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from torch import Tensor

from desed_task.atomic_files import PathLike, atomic_path


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place, then renames them.

    Lightning writes them to the system's folder for temporary files. If that is another disk, they
    are copied to their place, and a killed process leaves half a checkpoint there.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: PathLike, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; `storage_options` are those of remote storage, not supported."""
        if storage_options is not None:
            raise TypeError("storage_options are not supported")
        # Given a path, torch would store the temporary name in the file.
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save(stored_alike(checkpoint), file)


def stored_alike(value: Any) -> Any:
    """A copy of plain containers whose file depends on their values alone.

    Pickle stores an object once, however often it occurs, and equal objects as often as there are.
    Which of both equal values are changes when a training is resumed: the same training would have
    checkpoints with other digests, and what is computed from them would seem outdated.

    Returns:
        New containers for each place, one object for equal strings, and a copy of
        each tensor of at most one element; larger tensors are those of `value`.
    """
    if type(value) is str:
        return sys.intern(value)
    if isinstance(value, Tensor):
        return value.detach().clone() if value.numel() <= 1 else value
    if type(value) in (list, tuple):
        return type(value)(stored_alike(one) for one in value)
    if type(value) in (dict, OrderedDict):
        found = type(value)()
        found.update((stored_alike(key), stored_alike(one)) for key, one in value.items())
        if isinstance(value, OrderedDict):
            vars(found).update(stored_alike(vars(value)))  # `_metadata` of a module's state
        return found
    return value
