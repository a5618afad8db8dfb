"""The format of packed sets: a set's audio and embeddings in one memory-mapped file.

A packed file is derived from wav and embedding files, which remain the reference. It contains the
samples of each clip (int16 if that is lossless, float32 otherwise) and its embeddings, already
pooled to the network's frames if the network would only pool them. Rows read from it equal those of
the original files to the bit, unless embeddings are stored as float16.

    bytes 0-7      SEDPACK1
    bytes 8-15     length of the header, little-endian
    header         JSON: see `PackedHeader`
    audio          one slot per clip, its samples padded with zeros to the length of a batch's rows,
                   then one per window of the clips that are scored in windows
    embeddings     (row, feature, token) or (row, feature), of the same rows

Audio and embeddings begin at multiples of 4096 bytes. `packed_writer` writes these files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from desed_task.audio.windows import RowName, WindowKey
from desed_task.errors import InputError, count_of
from desed_task.file_names import looked_up_from

MAGIC = b"SEDPACK1"
ALIGNMENT = 4096
REPACK_REMEDY = "delete it and start again; it will be rebuilt"
# libsndfile converts 16-bit samples to floats by this factor.
INT16_TO_FLOAT = 1 / 32768

EmbeddingKind = Literal["pooled", "frame", "global", "none"]
FileStamp = tuple[int, int]  # size in bytes, time of the last change in ns
Ints = NDArray[np.int64]


class Packing(NamedTuple):
    """What is stored of each clip.

    Attributes:
        sample_rate: of the wav files, Hz.
        n_samples: length of a batch's rows; longer clips are kept whole, for random crops.
        kind: kind of embeddings: "pooled" to `n_frames`, all "frame" tokens, "global" or "none".
        n_frames: frames of the network's output.
        dtype: type of the embeddings: "float32" or "float16".
    """

    sample_rate: int
    n_samples: int
    kind: EmbeddingKind
    n_frames: int
    dtype: Literal["float32", "float16"] = "float32"

    @property
    def name(self) -> str:
        """Part of a file's name, so that files of other settings are not overwritten."""
        if self.kind == "none":
            return "audio"
        frames = self.n_frames if self.kind == "pooled" else ""
        return f"{self.kind}{frames}-{self.dtype}"


@dataclass(frozen=True)
class PackedHeader:
    """The header of a packed file.

    Attributes:
        packing: what is stored of each clip.
        clip_ids: file stems.
        lengths: (clip,) true lengths in samples.
        stamps: (clip,) stamps of the wav files.
        embeddings: stamp of the embeddings file, and what it was computed with.
        audio_dtype: "int16" or "float32".
        embedding_shape: shape of one clip's embeddings.
        windows: windows of longer clips, with a slot and embeddings each, after the clips.
    """

    packing: Packing
    clip_ids: tuple[str, ...]
    lengths: tuple[int, ...]
    stamps: tuple[FileStamp, ...]
    embeddings: Mapping[str, Any]
    audio_dtype: Literal["int16", "float32"]
    embedding_shape: tuple[int, ...]
    windows: tuple[WindowKey, ...] = ()

    @property
    def row_lengths(self) -> Ints:
        """(row,) samples of each clip, then of each window."""
        own = np.asarray(self.lengths, dtype=np.int64)
        return np.append(own, np.full(len(self.windows), self.packing.n_samples, dtype=np.int64))

    @property
    def offsets(self) -> Ints:
        """(row + 1,) first sample of each slot, then the end of the last."""
        slots = np.maximum(self.row_lengths, self.packing.n_samples)
        return np.concatenate([[0], np.cumsum(slots)])

    @property
    def n_rows(self) -> int:
        """Clips and windows."""
        return len(self.clip_ids) + len(self.windows)

    @property
    def audio_bytes(self) -> int:
        """Size of all slots."""
        return int(self.offsets[-1]) * np.dtype(self.audio_dtype).itemsize

    @property
    def embedding_bytes(self) -> int:
        """Size of all embeddings."""
        if self.packing.kind == "none":
            return 0
        values = self.n_rows * int(np.prod(self.embedding_shape))
        return values * np.dtype(self.packing.dtype).itemsize

    def encode(self) -> bytes:
        """The bytes before the audio."""
        text = json.dumps(asdict(self) | {"packing": self.packing._asdict()}).encode()
        head = MAGIC + len(text).to_bytes(8, "little") + text
        return head.ljust(align(len(head)), b"\0")

    @classmethod
    def decode(cls, text: bytes) -> PackedHeader:
        """Parse the JSON; KeyError, TypeError or ValueError if it is not a header."""
        tree = json.loads(text)
        header = cls(
            Packing(**tree["packing"]),
            tuple(map(str, tree["clip_ids"])),
            tuple(map(int, tree["lengths"])),
            tuple((int(size), int(changed)) for size, changed in tree["stamps"]),
            dict(tree["embeddings"]),
            tree["audio_dtype"],
            tuple(map(int, tree["embedding_shape"])),
            tuple(WindowKey(str(name), int(start)) for name, start in tree.get("windows", ())),
        )
        if not len(header.clip_ids) == len(header.lengths) == len(header.stamps) > 0:
            raise ValueError("clips, lengths and stamps differ in number")
        if header.audio_dtype not in ("int16", "float32"):
            raise ValueError(f"audio of type {header.audio_dtype}")
        if header.packing.dtype not in ("float32", "float16"):
            raise ValueError(f"embeddings of type {header.packing.dtype}")
        return header


class PackedSet:
    """A packed file: its header, and its arrays mapped into memory.

    It can be pickled; the other process maps the file again.

    Attributes:
        path: the file.
        header: its header.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the header and compare the file's size with it.

        Raises:
            InputError: the file is missing, truncated or not a packed set.
        """
        self.path = Path(path)
        try:
            self.header, self._audio_at = _read_header(self.path)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.path}: not a packed set ({error}); {REPACK_REMEDY}") from None
        self._embeddings_at = align(self._audio_at + self.header.audio_bytes)
        expected = self._embeddings_at + self.header.embedding_bytes
        found = self.path.stat().st_size
        if found != expected:
            raise InputError(
                f"{self.path}: has {count_of(found, 'byte')} instead of {expected}; {REPACK_REMEDY}"
            )
        names: tuple[RowName, ...] = (*self.header.clip_ids, *self.header.windows)
        self._row = {name: row for row, name in enumerate(names)}

    @property
    def n_bytes(self) -> int:
        """Memory size of the arrays."""
        return self.header.audio_bytes + self.header.embedding_bytes

    def rows(self, names: Iterable[RowName]) -> Ints:
        """(row,) positions of clips and windows.

        Raises:
            InputError: naming a clip or window that is not in the file.
        """
        try:
            return np.array([self._row[name] for name in names], dtype=np.int64)
        except KeyError as error:
            raise InputError(f"{self.path}: has no clip {error}; {REPACK_REMEDY}") from None

    def audio(self) -> Tensor:
        """(sample,) int16 or float32: the slots of all clips, mapped."""
        count = int(self.header.offsets[-1])
        return self._mapped(self._audio_at, self.header.audio_dtype, (count,))

    def embeddings(self) -> Tensor | None:
        """(clip, feature, token) or (clip, feature), mapped; None if there are none."""
        if self.header.packing.kind == "none":
            return None
        shape = (self.header.n_rows, *self.header.embedding_shape)
        return self._mapped(self._embeddings_at, self.header.packing.dtype, shape)

    def _mapped(self, offset: int, dtype: str, shape: tuple[int, ...]) -> Tensor:
        # Mode "c" (copy on write) leaves the file intact; PyTorch refuses read-only arrays.
        return torch.from_numpy(np.memmap(self.path, dtype, "c", offset, shape))


def _read_header(path: Path) -> tuple[PackedHeader, int]:
    """The header and where the audio begins."""
    if not path.is_file():
        raise InputError(f"{path}: no such packed set{looked_up_from(path)}")
    with open(path, "rb") as file:
        start = file.read(16)
        if start[:8] != MAGIC:
            raise ValueError(f"it does not begin with {MAGIC.decode()}")
        length = int.from_bytes(start[8:], "little")
        if 16 + length > path.stat().st_size:
            raise ValueError("it ends before its header does")
        return PackedHeader.decode(file.read(length)), align(16 + length)


def align(n_bytes: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def file_stamp(path: Path) -> FileStamp:
    """Size and time of the last change of a file.

    Raises:
        InputError: the file is missing.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file{looked_up_from(path)}, though it existed before; start again"
        ) from None
    return found.st_size, found.st_mtime_ns


def stale_reason(
    packed: PackedSet,
    packing: Packing,
    clip_ids: Sequence[str],
    stamps: Sequence[FileStamp],
    embeddings: Mapping[str, Any],
    windows: Iterable[WindowKey] = (),
) -> str | None:
    """Why a packed set no longer matches the files it was made from; None if it does.

    Args:
        packed: the set.
        packing: what should be stored of each clip.
        clip_ids: clips that are needed; the set may have more.
        stamps: stamps of their wav files.
        embeddings: what `PackedHeader.embeddings` should be.
        windows: windows of longer clips that are needed.
    """
    header = packed.header
    if header.packing != packing:
        return f"it was packed with {header.packing}, now {packing} is needed"
    if header.embeddings != embeddings:
        return "the embeddings file has changed"
    there = dict(zip(header.clip_ids, header.stamps, strict=True))
    absent = [clip_id for clip_id in clip_ids if clip_id not in there]
    if absent:
        return f"it lacks {len(absent)} of {count_of(len(clip_ids), 'clip')} (e.g. {absent[0]})"
    changed = [c for c, found in zip(clip_ids, stamps, strict=True) if there[c] != found]
    if changed:
        counted = count_of(len(changed), "wav file has", "wav files have")
        return f"{counted} changed (e.g. {changed[0]})"
    lacking = set(windows) - set(header.windows)
    if lacking:
        return f"it lacks {count_of(len(lacking), 'window')} of longer clips"
    return None
