"""How checkpoints are written to disk."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

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
            torch.save(checkpoint, file)
