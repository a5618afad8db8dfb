"""Compute frame logits of many clips; stored embeddings of encoders are read where current."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from desed_task.audio.windows import RowName
from desed_task.dataio.embeddings import Array, EmbeddingReader, RowReader
from desed_task.encoders.concatenated import ConcatenatedEncoders
from desed_task.encoders.interface import EmbeddingModel, Encoder
from desed_task.errors import InputError
from desed_task.inference.frame_logits import EmbeddingKind, JointLogits
from local.extraction.embedder import Embedder, Precision, SetFiles
from local.processes.decisions import decided_by_first
from local.schema.encoders import BEATS, EncoderChoice
from local.stores.identity import StoredIdentity, identity_of
from local.stores.joined import JoinedReader
from local.stores.up_to_date import why_outdated


@dataclass(frozen=True, kw_only=True)
class LogitEmbedder(Embedder):
    """Reads clips and computes the logits of their frames: rows (frame, class).

    Attributes:
        model: the checkpoints.
        stores: parent of the folders of embeddings.
        readers: place of an encoder in `model.encoders` -> its stored embeddings of the set.
    """

    model: JointLogits
    stores: Path
    readers: Mapping[int, RowReader] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Frames and classes of a clip."""
        return self.model.width, self.model.n_tokens(self.n_samples)

    def for_set(self, name: str, work: SetFiles) -> LogitEmbedder:
        """The same, with stored embeddings of a set.

        Collective call: every process must reach it.
        """
        found = decided_by_first(lambda: self._stored(name, work))
        return replace(self, readers=found)

    def _stored(self, name: str, work: SetFiles) -> dict[int, RowReader]:
        found: dict[int, RowReader] = {}
        for place, encoder in enumerate(self.model.encoders):
            look = StoredLookup(self.stores, name, work, self.clip_s, self.precision)
            reader = look.reader(encoder, self.model.n_blocks[place])
            if reader is not None:
                found[place] = reader
            told = "read" if reader is not None else "computed"
            print(f"{name}: embeddings of {encoder.name} are {told}")
        return found

    def _computed(self, names: Sequence[RowName], waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of waveforms, and nothing without frames."""
        stored = {
            (place, kind): self._read_rows(reader, kind, names)
            for place, reader in self.readers.items()
            for kind in self.model.kinds(place)
        }
        logits = self.model(waveform, stored, half=self.precision == "bf16")
        return logits, logits.new_zeros(len(names), 0)

    def _read_rows(
        self, reader: RowReader, kind: EmbeddingKind, names: Sequence[RowName]
    ) -> Tensor:
        read: Callable[[RowName], Array] = reader.global_ if kind == "global" else reader.frame
        rows = torch.from_numpy(np.stack([read(name) for name in names]))
        return rows.to(self.device)


@dataclass(frozen=True)
class StoredLookup:
    """Finds stored embeddings of a set that are current.

    Attributes:
        root: parent of the folders of embeddings.
        name: of the set.
        work: its clips and windows.
        clip_s: length of a clip in seconds.
        precision: of the embeddings that are wanted.
    """

    root: Path
    name: str
    work: SetFiles
    clip_s: float
    precision: Precision

    def reader(self, encoder: EmbeddingModel, n_blocks: Sequence[int]) -> RowReader | None:
        """The stored embeddings of an encoder; None if they are missing or outdated.

        Args:
            encoder: one, or several that are joined.
            n_blocks: (part,) blocks that are computed, 0 for all.
        """
        parts = [self._part(*one) for one in zip(encoder.parts, n_blocks, strict=True)]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return None
        if isinstance(encoder, ConcatenatedEncoders):
            return JoinedReader(found, encoder.n_frames, encoder.aggregation)
        return found[0]

    def _part(self, encoder: Encoder, n_blocks: int) -> EmbeddingReader | None:
        if not encoder.sha256:
            return None
        shape = encoder.width, encoder.n_tokens(round(self.clip_s * encoder.sample_rate))
        # Not by its layers: those of an encoder that stops early have the shapes of all.
        choice = EncoderChoice(encoder.name, "", n_blocks or None)
        identity = identity_of(choice, encoder.sha256, self.clip_s)
        if self.precision != "32":
            identity["precision"] = self.precision
        for folder in self._folders(encoder.name):
            if found := self._file(folder / f"{self.name}.hdf5", shape, identity):
                return found
        return None

    def _folders(self, name: str) -> list[Path]:
        own = sorted(self.root.glob(f"{name}-*")) if self.root.is_dir() else []
        return [self.root / BEATS, *own] if name == BEATS else own

    def _file(
        self, path: Path, shape: tuple[int, int], identity: StoredIdentity
    ) -> EmbeddingReader | None:
        """The reader of a file if it has exactly these embeddings, and they are current."""
        try:
            if not path.is_file() or EmbeddingReader(path).identity != identity:
                return None
            clips, windows = self.work
            reason, ours = why_outdated(path, clips, windows, shape, identity)
            if reason is not None or not ours:
                return None
            reader = EmbeddingReader(path)
            reader.match(clips)
        except InputError:
            return None
        return reader
