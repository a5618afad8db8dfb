"""Embeddings of several encoders as those of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch

from desed_task.audio.windows import RowName, WindowKey
from desed_task.dataio.embeddings import ENCODER, N_BLOCKS, Array, EmbeddingReader
from desed_task.encoders.concatenated import NEAREST, align_tokens
from local.schema.encoders import BEATS

Row = TypeVar("Row", str, WindowKey)
# What a file that lacks an attribute was computed with.
_DEFAULTS = {ENCODER: BEATS, N_BLOCKS: "all", "precision": "32"}


class JoinedReader:
    """Embeddings of one set from the files of several encoders, concatenated over features.

    Frame embeddings are brought to the frames of the CRNN first (`align_tokens`), as encoders have
    other numbers of tokens.

    Attributes:
        parts: the readers, in the order of their features.
        path: of the first one's file.
        size: features of all.
        n_tokens: frames of the CRNN.
        alignment: how tokens are brought to frames, and to how many.
        identity: what embeddings were computed with; empty if it is not known of all.
    """

    def __init__(self, parts: Sequence[EmbeddingReader], n_frames: int, aggregation: str) -> None:
        """See the class and `align_tokens`."""
        self.parts = tuple(parts)
        self.path = self.parts[0].path
        self.size = sum(part.size for part in self.parts)
        self.n_tokens = n_frames
        self.alignment = f"{'nearest' if aggregation == NEAREST else 'mean'} of {n_frames}"
        self.identity = _joined([part.identity for part in self.parts])
        self._aggregation = aggregation

    def frame(self, name: RowName) -> Array:
        """Frame embeddings of a clip or window, (feature, n_frames), float32.

        Raises:
            InputError: a file has no such row, or values that no encoder computes.
        """
        rows = (torch.from_numpy(part.frame(name)) for part in self.parts)
        aligned = [align_tokens(row, self.n_tokens, self._aggregation) for row in rows]
        return torch.cat(aligned).numpy()

    def global_(self, name: RowName) -> Array:
        """The global embedding of a clip or window, (feature,), float32.

        Raises:
            InputError: a file has no such row, or values that no encoder computes.
        """
        return np.concatenate([part.global_(name) for part in self.parts])

    def missing(self, names: Iterable[Row]) -> list[Row]:
        """Those clips or windows that a file has no embeddings of, in order."""
        names = list(names)
        lacking = {name for part in self.parts for name in part.missing(names)}
        return [name for name in names if name in lacking]

    def match(self, clip_ids: Iterable[str]) -> dict[str, str]:
        """Find clips under the names of the files, which may lack their folders.

        Returns:
            clip -> name in the first file, of those found in all.

        Raises:
            InputError: a name of a file could be that of several clips.
        """
        clip_ids = list(clip_ids)
        found = [part.match(clip_ids) for part in self.parts]
        return {clip: name for clip, name in found[0].items() if all(clip in one for one in found)}


def _joined(identities: Sequence[dict[str, str | float]]) -> dict[str, str | float]:
    if not all(identities):
        return {}
    keys = dict.fromkeys(key for identity in identities for key in identity)
    joined: dict[str, str | float] = {}
    for key in keys:
        values = [identity.get(key, _DEFAULTS.get(key, "")) for identity in identities]
        same = len(set(values)) == 1
        joined[key] = values[0] if same else "+".join(map(str, values))
    return joined
