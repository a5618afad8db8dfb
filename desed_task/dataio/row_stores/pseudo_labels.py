"""Pseudo-labels on disk: one HDF5 file per set, in the published layout.

    strong_logits  (clip, frame, class)  float32, before the sigmoid
    filenames      (clip,)               clip ids (published files: the files' names)

Windows of longer clips, marks and the audio are stored as in files of embeddings
(`desed_task.dataio.embeddings`), with `window_strong_logits` (window, frame, class).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch

from desed_task.atomic_files import PathLike
from desed_task.audio.windows import RowName, WindowKey
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.dataio.row_stores.forms import PSEUDO_LABELS
from desed_task.dataio.row_stores.layout import CLASSES, Array

Row = TypeVar("Row", str, WindowKey)


class PseudoLabelReader:
    """Pseudo-labels of one set, by clip; it can be pickled and survives a fork.

    Attributes:
        rows: reads the logits.
        path: the file.
        identity: checkpoints, network, classes and clip length; empty in published files.
        n_frames, n_classes: shape of a clip's logits.
    """

    def __init__(self, path: PathLike) -> None:
        """Read names and shapes.

        Raises:
            InputError: see `EmbeddingReader`.
        """
        self.rows = EmbeddingReader(path, PSEUDO_LABELS)
        self.path, self.identity = self.rows.path, self.rows.identity
        self.n_frames, self.n_classes = self.rows.size, self.rows.n_tokens

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels of the classes in their order; empty in published files."""
        return tuple(line for line in str(self.identity.get(CLASSES, "")).split("\n") if line)

    def labels(self, name: RowName) -> Array:
        """Pseudo-labels of a clip or window, (class, frame) in [0, 1], float32.

        Raises:
            InputError: the file has no such row, or values that no network computes.
        """
        found: Array = torch.from_numpy(self.rows.frame(name)).sigmoid().T.contiguous().numpy()
        return found

    def missing(self, names: Iterable[Row]) -> list[Row]:
        """Those clips or windows that the file has no pseudo-labels of, in order."""
        return self.rows.missing(names)
