"""Compute embeddings of many clips, on all CPU cores or on a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from desed_task.audio.files import read_clip, read_window
from desed_task.audio.windows import RowName, Span, Waveform, WindowGrid, WindowKey
from desed_task.dataio.embeddings import CHECKPOINT_SHA256, read_layout
from desed_task.encoders.interface import Encoder
from desed_task.encoders.weights_file import ENCODER_RATE, find_weights
from desed_task.errors import InputError
from desed_task.parallel import prefetch
from local.cli.precision import SINGLE, usable_precision
from local.stores.folders import sha256_once

_READERS = 8
Item = TypeVar("Item")
Result = TypeVar("Result")


Precision = Literal["32", "bf16"]


class FileWindow(NamedTuple):
    """A window of a file that is longer than a clip.

    Attributes:
        wav: the file.
        windows: positions of windows.
        span: the window.
    """

    wav: Path
    windows: WindowGrid
    span: Span


class SetFiles(NamedTuple):
    """Of a set, what its rows are computed from.

    Attributes:
        clips: clip -> file.
        windows: windows of longer clips.
    """

    clips: Mapping[str, Path]
    windows: Sequence[WindowKey]


NamedFiles = Sequence[tuple[RowName, Path | FileWindow]]


class AudioBatch(NamedTuple):
    """Names and waveforms (row, sample) of clips and windows, and the faults of unreadable ones."""

    clip_ids: list[RowName]
    waveform: Tensor
    faults: list[str]


class EmbeddedBatch(NamedTuple):
    """Embeddings of a batch; the event `ready` marks the end of their copy to the CPU."""

    clip_ids: list[RowName]
    frame: Tensor
    global_: Tensor
    faults: list[str]
    ready: torch.cuda.Event | None


@dataclass(frozen=True)
class Embedder:
    """Reads clips and computes their embeddings.

    Attributes:
        encoder: the network.
        device: device that computes.
        clip_s: length that clips are padded or cropped to, in seconds.
        batch_size: clips per batch, on the CPU per core; None for 32 on a GPU and 4 on the CPU,
            where larger batches exceed the cores' caches.
        precision: "bf16" multiplies matrices in bfloat16, two to three times faster on hardware
            that supports it. Embeddings are float32 in any case.
    """

    encoder: Encoder
    device: torch.device
    clip_s: float
    batch_size: int | None = None
    precision: Precision = "32"

    @property
    def n_samples(self) -> int:
        """Length of a clip in samples."""
        return round(self.clip_s * ENCODER_RATE)

    @property
    def shape(self) -> tuple[int, int]:
        """Features and tokens of the frame embeddings of a clip."""
        return self.encoder.width, self.encoder.n_tokens(self.n_samples)

    @property
    def rows_per_batch(self) -> int:
        """Clips and windows in a batch."""
        return self.batch_size or (4 if self.device.type == "cpu" else 32)

    def stream(
        self, batches: Iterable[NamedFiles], most: int | None = None
    ) -> Generator[EmbeddedBatch, None, None]:
        """Embeddings of clips and windows, batch by batch, in order; the next are read meanwhile.

        Args:
            batches: rows with their files, whose beginnings count, or windows of files; taken as
                they are needed.
            most: batches taken and not yet yielded, at most; on a GPU one more. None for as many
                as keep the threads busy.
        """
        on_cpu = self.device.type == "cpu"
        return self._on_cpu(batches, most) if on_cpu else self._on_gpu(batches, most)

    def _on_cpu(
        self, batches: Iterable[NamedFiles], most: int | None = None
    ) -> Generator[EmbeddedBatch, None, None]:
        """One batch per core at a time, which is faster than all cores on one batch."""
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        work = partial(_in_turn, self._read, self._embed)
        try:
            yield from prefetch(work, batches, n_threads, most)
        finally:
            torch.set_num_threads(n_threads)

    def _on_gpu(
        self, batches: Iterable[NamedFiles], most: int | None = None
    ) -> Generator[EmbeddedBatch, None, None]:
        """Yield each batch, for writing, while the next one is computed."""
        before: EmbeddedBatch | None = None
        for batch in prefetch(self._read, batches, _READERS, most):
            now = self._embed(batch)
            if before is not None:
                yield _arrived(before)
            before = now
        if before is not None:
            yield _arrived(before)

    def _read(self, clips: NamedFiles) -> AudioBatch:
        names: list[RowName] = []
        waveforms, faults = [], []
        for name, wav in clips:
            try:
                samples = self._waveform(wav)
            except InputError as error:
                faults.append(str(error))
            else:
                names.append(name)
                waveforms.append(torch.from_numpy(samples))
        waveform = torch.stack(waveforms) if waveforms else torch.empty(0, self.n_samples)
        if self.device.type == "cuda":
            # Only from pinned memory is the copy asynchronous.
            waveform = waveform.pin_memory()
        return AudioBatch(names, waveform, faults)

    def _waveform(self, wav: Path | FileWindow) -> Waveform:
        if isinstance(wav, FileWindow):
            return read_window(wav.wav, wav.windows, wav.span)
        clip = read_clip(wav, sample_rate=ENCODER_RATE, n_samples=self.n_samples, rng=None)
        return clip.waveform

    @torch.inference_mode()
    def _embed(self, batch: AudioBatch) -> EmbeddedBatch:
        if not batch.clip_ids:
            nothing = torch.empty(0, self.encoder.width)
            return EmbeddedBatch([], nothing[:, :, None], nothing, batch.faults, None)
        # On a Mac's GPU a copy that is not waited for may come too late.
        ahead = self.device.type == "cuda"
        waveform = batch.waveform.to(self.device, non_blocking=ahead)
        found = self._computed(batch.clip_ids, waveform)
        frame = found[0].float().contiguous().to("cpu", non_blocking=ahead)
        global_ = found[1].float().to("cpu", non_blocking=ahead)
        ready = None
        if self.device.type == "cuda":
            ready = torch.cuda.Event()
            ready.record()
        return EmbeddedBatch(batch.clip_ids, frame, global_, batch.faults, ready)

    def for_set(self, name: str, work: SetFiles) -> Embedder:
        """What computes a set; in every process."""
        return self

    def _computed(self, names: Sequence[RowName], waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Rows by frame (row, feature, token) and without frames (row, feature) of waveforms."""
        half = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            output = self.encoder.embed(waveform)
        return output.frame, output.global_


def _arrived(embedded: EmbeddedBatch) -> EmbeddedBatch:
    if embedded.ready is not None:
        embedded.ready.synchronize()
    return embedded


def _in_turn(first: Callable[[Item], Any], second: Callable[[Any], Result], item: Item) -> Result:
    return second(first(item))


def settled_precision(
    asked: Precision, device: torch.device, folder: Path, weights: Path, name: str = "beats"
) -> Precision:
    """The precision to extract with: float32 where a CPU is slower in bf16; says so.

    Embeddings that these weights have already given in bf16 are not thrown away: what is begun in
    it is finished in it.

    Args:
        asked: the precision asked for.
        device: device that computes.
        folder: folder of the embedding files.
        weights: file of weights.
        name: their encoder.

    Raises:
        InputError: the file of weights does not exist, or bf16 on a Mac's GPU.
    """
    if asked == "32" or device.type == "cuda":
        return asked
    path = find_weights(weights, name)
    return settled_for(asked, device, folder, lambda: sha256_once(path))


def settled_for(
    asked: Precision, device: torch.device, folder: Path, digest: Callable[[], str]
) -> Precision:
    """`settled_precision`, for files that record a digest of what computed them.

    Args:
        asked, device: see there.
        folder: folder of the files.
        digest: gives what files record as `checkpoint_sha256`.

    Raises:
        InputError: bf16 on a Mac's GPU.
    """
    if asked == "32" or device.type == "cuda":
        return asked
    begun = _is_begun(folder, asked, digest)
    used, line = usable_precision(asked, device.type, what="--precision", keep=begun)
    if line:
        print(line)
    return "32" if used == SINGLE else asked


def _is_begun(folder: Path, precision: Precision, digest: Callable[[], str]) -> bool:
    """Whether finished or unfinished files were computed by these weights in a precision."""
    digests = set()
    for path in folder.glob("*.hdf5*"):
        if path.suffix in (".hdf5", ".part") and path.is_file():
            with contextlib.suppress(InputError):
                identity = read_layout(path).identity
                if identity.get("precision") == precision:
                    digests.add(identity.get(CHECKPOINT_SHA256))
    # The digest of large weights takes a second.
    return bool(digests) and digest() in digests
