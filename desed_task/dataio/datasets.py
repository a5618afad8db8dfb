"""Datasets of the clips of one or several corpora, with policies for their targets."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from desed_task.audio.files import read_clip, read_window
from desed_task.audio.windows import LongClips, RowName, Span
from desed_task.batch import SedBatch
from desed_task.dataio.annotations import EventTable, WeakTable
from desed_task.dataio.embeddings import RowReader
from desed_task.labels import FrameGrid

if TYPE_CHECKING:
    from desed_task.dataio.packed_clips import PackedClips
    from desed_task.dataio.row_stores.pseudo_labels import PseudoLabelReader

Target = npt.NDArray[np.float32]


class ItemKey(NamedTuple):
    """A row to read and the seed of its random crop."""

    row: int
    crop_seed: tuple[int, ...] | None = None  # None: cropped at 0, as in testing


class DatasetRow(NamedTuple):
    """What a row of a dataset is read from.

    Attributes:
        clip: index of the clip.
        span: the window of it; None for the whole clip, cropped if it is longer.
    """

    clip: int
    span: Span | None = None


class TargetPolicy(ABC):
    """How the target of a clip is computed.

    Attributes:
        moves_with_crop: whether it depends on which part of the clip is read.
        is_drawn: whether it depends on the draw.
    """

    moves_with_crop = False
    is_drawn = False

    @abstractmethod
    def target(
        self,
        index: int,
        crop_onset_s: float,
        draw: tuple[int, ...] | None = None,
        first_frame: int | None = None,
    ) -> Target:
        """Target (class, frame) of a clip.

        Args:
            index: the clip.
            crop_onset_s: where the part begins that is read.
            draw: seed, epoch and row, in training.
            first_frame: the first frame of a window, whose frames are those of the clip; None for a
                part that begins anywhere.
        """


class StrongTargets(TargetPolicy):
    """Events on the frame grid, shifted and clipped to the crop (docs/method.md, Audio and labels).

    They are shifted by the crop's onset rounded to 1 ms, as published; the audio is cropped at the
    exact sample, up to 0.5 ms apart.

    Args:
        table: events of exactly the dataset's clips, in their order.
        grid: grid of label frames.
    """

    moves_with_crop = True

    def __init__(self, table: EventTable, grid: FrameGrid) -> None:
        self.grid = grid
        self.n_classes = len(table.vocabulary)
        # Stable: within a clip, later rows of the table overwrite earlier ones.
        order = np.argsort(table.clip_index, kind="stable")
        self._events = table.rows(order)
        # Events of clip i lie between entries i and i + 1.
        self._start = np.searchsorted(table.clip_index[order], np.arange(len(table.clip_ids) + 1))

    def target(
        self,
        index: int,
        crop_onset_s: float,
        draw: tuple[int, ...] | None = None,
        first_frame: int | None = None,
    ) -> Target:
        """See `TargetPolicy`; entries are the events' confidence."""
        rows = slice(self._start[index], self._start[index + 1])
        if first_frame is not None:
            # Not shifted in seconds, whose rounding could move an event by a frame.
            return self.grid.encode(
                self._events.onset_s[rows],
                self._events.offset_s[rows],
                self._events.label_index[rows],
                self._events.confidence[rows],
                self.n_classes,
                first_frame,
            )
        shift_s = round(crop_onset_s, 3)
        onset_s = np.clip(self._events.onset_s[rows] - shift_s, 0.0, self.grid.clip_s)
        offset_s = np.clip(self._events.offset_s[rows] - shift_s, 0.0, self.grid.clip_s)
        left = offset_s > onset_s
        return self.grid.encode(
            onset_s[left],
            offset_s[left],
            self._events.label_index[rows][left],
            self._events.confidence[rows][left],
            self.n_classes,
        )


class DrawnTargets(TargetPolicy):
    """Events that one annotator of a clip marked; each epoch draws the annotator again.

    Which one depends on seed, epoch and clip alone, so that windows of a clip have the same, and a
    resumed training draws as an uninterrupted one.

    Args:
        table: one clip for each clip of the dataset and annotator.
        spans: (clip,) the place of a clip's first one in the table, and their number.
        clip_ids: names of the dataset's clips.
        grid: grid of label frames.
    """

    moves_with_crop = True
    is_drawn = True

    def __init__(
        self,
        table: EventTable,
        spans: Sequence[tuple[int, int]],
        clip_ids: Sequence[str],
        grid: FrameGrid,
    ) -> None:
        self._of_each = StrongTargets(table, grid)
        self._spans = tuple(spans)
        self._keys = tuple(zlib.crc32(clip_id.encode()) for clip_id in clip_ids)

    def target(
        self,
        index: int,
        crop_onset_s: float,
        draw: tuple[int, ...] | None = None,
        first_frame: int | None = None,
    ) -> Target:
        """See `TargetPolicy`; without a draw, the events of the first annotator."""
        first, number = self._spans[index]
        if not number:
            return np.zeros((self._of_each.n_classes, self._of_each.grid.n_frames), np.float32)
        chosen = 0
        if draw is not None:
            chosen = int(np.random.default_rng((*draw[:2], self._keys[index])).integers(number))
        return self._of_each.target(first + chosen, crop_onset_s, first_frame=first_frame)


class WeakTargets(TargetPolicy):
    """1 in frame 0 of the classes present.

    Args:
        table: labels of exactly the dataset's clips, in their order.
        grid: grid of label frames.
    """

    def __init__(self, table: WeakTable, grid: FrameGrid) -> None:
        self.grid = grid
        self._present = table.target

    def target(
        self,
        index: int,
        crop_onset_s: float,
        draw: tuple[int, ...] | None = None,
        first_frame: int | None = None,
    ) -> Target:
        """See `TargetPolicy`."""
        present = np.flatnonzero(self._present[index])
        return self.grid.encode_weak(present, self._present.shape[1])


class NoTargets(TargetPolicy):
    """Zeros, for clips without labels."""

    def __init__(self, n_classes: int, grid: FrameGrid) -> None:
        self._shape = (n_classes, grid.n_frames)

    def target(
        self,
        index: int,
        crop_onset_s: float,
        draw: tuple[int, ...] | None = None,
        first_frame: int | None = None,
    ) -> Target:
        """See `TargetPolicy`."""
        return np.zeros(self._shape, dtype=np.float32)


class SedDataset(Dataset[SedBatch]):
    """Clips of one corpus, one row each, or one per window for those that are scored in windows.

    Args:
        clip_ids: names of the clips.
        wavs: (clip,) their 16 kHz files.
        targets: the policy for their targets.
        known: (class,) bool, the classes that the corpus annotates.
        source: number of the corpus.
        embeddings: reader of their embeddings; None gives rows an empty tensor.
        embedding_type: "frame" (feature, token) or "global" (feature,).
        sample_rate: of the files, Hz.
        clip_s: seconds read of each clip.
        packed: the same audio and embeddings in memory or in one file, for `PackedBatches`.
        long: clips that are read in windows; None crops every clip.
        pseudo: reader of their pseudo-labels; None if there are none.
    """

    def __init__(
        self,
        clip_ids: Sequence[str],
        wavs: Sequence[Path],
        targets: TargetPolicy,
        known: npt.NDArray[np.bool_],
        source: int,
        *,
        embeddings: RowReader | None,
        embedding_type: str,
        sample_rate: int,
        clip_s: float,
        packed: PackedClips | None = None,
        long: LongClips | None = None,
        pseudo: PseudoLabelReader | None = None,
    ) -> None:
        self.clip_ids = tuple(clip_ids)
        self.wavs = tuple(wavs)
        self.targets = targets
        self.known = torch.from_numpy(known)
        self.source = torch.tensor(source)
        self.embeddings = embeddings
        self.embedding_type = embedding_type
        self.sample_rate = sample_rate
        self.n_samples = round(clip_s * sample_rate)
        self.packed = packed
        self.long = long
        self.pseudo = pseudo
        spans = {} if long is None else long.spans
        self.rows = tuple(
            DatasetRow(clip, span)
            for clip, clip_id in enumerate(self.clip_ids)
            for span in spans.get(clip_id, (None,))
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: ItemKey | int) -> SedBatch:
        """One row: the fields of `SedBatch` without the batch axis.

        The crop depends on the key alone, not on the worker or process that reads the clip.
        """
        row, crop_seed = key if isinstance(key, ItemKey) else ItemKey(key)
        clip, span = self.rows[row]
        waveform, onset_s = self._read(row, crop_seed)
        return SedBatch(
            waveform=torch.from_numpy(waveform),
            target=torch.from_numpy(self.target_of(row, onset_s, crop_seed)),
            known=self.known,
            source=self.source,
            embedding=self._embedding(self.row_name(row)),
            clip_id=(self.clip_ids[clip],),
            span=() if span is None else (span,),
            pseudo=self.pseudo_labels(row),
        )

    @property
    def reads_beginnings(self) -> bool:
        """Whether longer clips are cropped at 0, not at random, as pseudo-labels are of that."""
        return self.pseudo is not None

    def pseudo_labels(self, row: int) -> torch.Tensor | None:
        """Pseudo-labels (class, frame) of a row; None if there are none."""
        return (
            None
            if self.pseudo is None
            else torch.from_numpy(self.pseudo.labels(self.row_name(row)))
        )

    def target_of(
        self, row: int, crop_onset_s: float = 0.0, draw: tuple[int, ...] | None = None
    ) -> Target:
        """Target (class, frame) of a row; see `TargetPolicy.target`."""
        clip, span = self.rows[row]
        first_frame = None if span is None else span.first
        return self.targets.target(clip, crop_onset_s, draw, first_frame)

    def row_name(self, row: int) -> RowName:
        """The name of a row in embeddings and packed files."""
        clip, span = self.rows[row]
        clip_id = self.clip_ids[clip]
        return clip_id if self.long is None or span is None else self.long.name(clip_id, span)

    def window_onset_s(self, row: int) -> float:
        """Where in its clip the window of a row begins; 0 for a row that is no window."""
        span = self.rows[row].span
        if self.long is None or span is None:
            return 0.0
        return self.long.windows.start(span) / self.sample_rate

    def _read(
        self, row: int, crop_seed: tuple[int, ...] | None
    ) -> tuple[npt.NDArray[np.float32], float]:
        """The waveform (sample,) of a row, and where in its clip it begins, in seconds."""
        index, span = self.rows[row]
        path = self.wavs[index]
        if self.long is not None and span is not None:
            return read_window(path, self.long.windows, span), self.window_onset_s(row)
        at_random = crop_seed is not None and not self.reads_beginnings
        clip = read_clip(
            path,
            sample_rate=self.sample_rate,
            n_samples=self.n_samples,
            rng=np.random.default_rng(crop_seed) if at_random else None,
        )
        return clip.waveform, clip.crop_onset_s

    def _embedding(self, name: RowName) -> torch.Tensor:
        if self.embeddings is None:
            return torch.empty(0)
        read = self.embeddings.global_ if self.embedding_type == "global" else self.embeddings.frame
        return torch.from_numpy(read(name))


class JoinedDataset(Dataset[SedBatch]):
    """Concatenated datasets, also addressed by `ItemKey`.

    Args:
        parts: the datasets, none of them empty.
    """

    def __init__(self, parts: Sequence[SedDataset | JoinedDataset]) -> None:
        self.parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    @property
    def leaves(self) -> tuple[SedDataset, ...]:
        """The datasets of single corpora, in the order of the rows."""
        return tuple(
            leaf
            for part in self.parts
            for leaf in (part.leaves if isinstance(part, JoinedDataset) else (part,))
        )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, key: ItemKey | int) -> SedBatch:
        """The row at a position counted over all parts."""
        row, crop_seed = key if isinstance(key, ItemKey) else ItemKey(key)
        place = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._ends[place - 1]) if place else 0
        return self.parts[place][ItemKey(row - start, crop_seed)]
