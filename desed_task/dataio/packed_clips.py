"""The arrays of a packed set: mapped from the disk, or in RAM or GPU memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from desed_task.dataio.packed_format import INT16_TO_FLOAT, Ints, PackedSet
from desed_task.parallel import Progress

# Bytes read at a time, so that the bar moves and memory never holds two copies of a set.
_BLOCK_BYTES = 1 << 26


class PackedClips:
    """The arrays of a packed set: mapped from the disk, or tensors of a device.

    Args:
        packed: the set.
        device: where to copy its arrays; None leaves them on the disk.
        bar: progress bar that counts bytes.

    Attributes:
        packed: the set.
        audio: (sample,) int16 or float32, one slot per clip and window.
        embeddings: (row, feature, token) or (row, feature); None if there are none.
    """

    def __init__(
        self, packed: PackedSet, device: torch.device | None = None, bar: Progress | None = None
    ) -> None:
        self.packed = packed
        self.resident = device is not None
        self.lengths: Ints = packed.header.row_lengths
        self.offsets = packed.header.offsets
        self.audio = packed.audio()
        self.embeddings = packed.embeddings()
        if device is not None:
            self.audio = _copy_to_device(self.audio, device, bar)
            if self.embeddings is not None:
                self.embeddings = _copy_to_device(self.embeddings, device, bar)

    @property
    def device(self) -> torch.device:
        """Where batches are assembled."""
        return self.audio.device

    def put_waveforms(self, out: Tensor, starts: Tensor) -> None:
        """Write waveforms.

        Args:
            out: (row, sample), float32.
            starts: (row,) first samples, in `audio`.
        """
        # A view of all windows of the audio; only the selected ones are read.
        windows = self.audio.unfold(0, out.shape[1], 1)
        if self.audio.dtype == torch.float32:
            torch.index_select(windows, 0, starts, out=out)
        else:
            # Twice as fast on a CPU as one multiplication of mixed types.
            out.copy_(windows.index_select(0, starts)).mul_(INT16_TO_FLOAT)

    def put_embeddings(self, out: Tensor, rows: Tensor) -> None:
        """Write embeddings.

        Args:
            out: (row, feature, token) or (row, feature), float32.
            rows: (row,) of the set.
        """
        assert self.embeddings is not None, self.packed.path
        if self.embeddings.dtype == torch.float32:
            torch.index_select(self.embeddings, 0, rows, out=out)
        else:
            out.copy_(self.embeddings.index_select(0, rows))

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the file again.
        return {"packed": self.packed} if not self.resident else self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        if set(state) == {"packed"}:
            PackedClips.__init__(self, state["packed"])
        else:
            self.__dict__.update(state)


def _copy_to_device(mapped: Tensor, device: torch.device, bar: Progress | None) -> Tensor:
    """A copy on `device`."""
    brought = torch.empty(mapped.shape, dtype=mapped.dtype, device=device)
    rows = max(_BLOCK_BYTES // (mapped[0].numel() * mapped.element_size()), 1)
    for start in range(0, len(mapped), rows):
        block = mapped[start : start + rows]
        brought[start : start + rows] = block
        if bar is not None:
            bar.update(block.numel() * block.element_size())
    return brought
