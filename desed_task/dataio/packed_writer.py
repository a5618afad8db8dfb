"""Write packed sets (see `desed_task.dataio.packed_format`)."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from desed_task.atomic_files import atomic_path
from desed_task.audio.files import check_rate, open_audio, read_window, to_mono
from desed_task.audio.windows import LongClips, RowName, Span, WindowGrid, WindowKey
from desed_task.dataio.embeddings import EmbeddingReader, RowReader
from desed_task.dataio.packed_format import (
    MAGIC,
    FileStamp,
    PackedHeader,
    PackedSet,
    Packing,
    align,
    file_stamp,
    stale_reason,
)
from desed_task.errors import InputError
from desed_task.nnet.fusion import pool_tokens
from desed_task.parallel import prefetch, progress_of, thread_map

READERS = 4
# Number of files from which reading their headers takes long enough for a progress bar.
MIN_CLIPS_FOR_BAR = 2000
# Formats whose samples are whole multiples of 1/32768.
_FIT_INT16 = ("PCM_16", "PCM_S8", "PCM_U8")


class ClipFiles(NamedTuple):
    """The files that a set is packed from.

    Attributes:
        title: name of the set, for the progress bar.
        clip_ids: file stems.
        wavs: (clip,) their wav files.
        reader: reads their embeddings; None to pack none.
        long: those that are scored in windows, if any.
    """

    title: str
    clip_ids: Sequence[str]
    wavs: Sequence[Path]
    reader: RowReader | None
    long: LongClips | None = None

    @property
    def windows(self) -> dict[WindowKey, Span]:
        """The further windows of the clips that are scored in windows."""
        return {} if self.long is None else self.long.further


class _Wav(NamedTuple):
    length: int
    fits_int16: bool


def pack(path: Path, files: ClipFiles, packing: Packing, *, progress: bool = True) -> str | None:
    """Create a packed set unless `path` is up to date.

    It is written atomically; the hidden partial file of a killed run is removed by the next one.

    Args:
        path: the packed file.
        files: the clips.
        packing: what is stored of them.
        progress: whether to show bars.

    Returns:
        Why it was created; None if it was up to date.

    Raises:
        InputError: for a wav file or embeddings that cannot be used, too little space, or another
            kind of file at `path`.
    """
    _refuse_others(path)
    stamps = [file_stamp(wav) for wav in files.wavs]
    source = embeddings_stamp(files.reader)
    try:
        reason = stale_reason(
            PackedSet(path), packing, files.clip_ids, stamps, source, files.windows
        )
    except InputError as error:
        reason = str(error) if path.exists() else "it did not exist"
    if reason is None:
        return None
    remove_stale_packs(path)
    header = _header(files, packing, stamps, source, progress)
    size = len(header.encode()) + header.audio_bytes + header.embedding_bytes
    check_space(path, size)
    try:
        _write(path, files, header, progress)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _no_space(path, size) from None
    return reason


def _refuse_others(path: Path) -> None:
    """Refuse to replace a file that is not a packed set, whole or damaged."""
    if not os.path.lexists(path):
        return
    if path.is_file():
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) in (MAGIC, b""):
                return
    raise InputError(
        f"{path}: is there, but not a packed set; move it away or give another data.packed_dir"
    )


def embeddings_stamp(reader: RowReader | None) -> dict[str, Any]:
    """The value of `PackedHeader.embeddings` for a reader; empty for None."""
    if reader is None:
        return {}
    stamps = [_embeddings_stamp(part) for part in reader.parts]
    # As JSON gives it back.
    return stamps[0] if len(stamps) == 1 else {"parts": stamps, "alignment": reader.alignment}


def _embeddings_stamp(reader: EmbeddingReader) -> dict[str, Any]:
    size, changed = file_stamp(reader.path)
    return {"size": size, "changed": changed, **reader.identity}


def remove_stale_packs(path: Path) -> None:
    """Remove partial files of killed runs beside `path`; those still being written are locked by
    `atomic_path`.
    """
    for part in path.parent.glob(f".*{path.suffix}"):
        with open(part, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            part.unlink(missing_ok=True)


def check_space(path: Path, needed: int) -> None:
    """Check that a file fits on the disk.

    Raises:
        InputError: with the sizes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if needed > shutil.disk_usage(path.parent).free:
        raise _no_space(path, needed)


def _no_space(path: Path, needed: int) -> InputError:
    free = shutil.disk_usage(path.parent).free
    return InputError(
        f"{path}: needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; free some space, set "
        "data.packed_dir to another folder or to null"
    )


def _header(
    files: ClipFiles,
    packing: Packing,
    stamps: Sequence[FileStamp],
    source: dict[str, Any],
    progress: bool,
) -> PackedHeader:
    look = partial(_probe, sample_rate=packing.sample_rate)
    desc = f"looking at {files.title}"
    shown = progress and len(files.wavs) >= MIN_CLIPS_FOR_BAR
    wavs = list(thread_map(look, files.wavs, jobs=READERS, desc=desc, progress=shown))
    return PackedHeader(
        packing,
        tuple(files.clip_ids),
        tuple(wav.length for wav in wavs),
        tuple(stamps),
        source,
        "int16" if all(wav.fits_int16 for wav in wavs) else "float32",
        _embedding_shape(files.reader, packing),
        tuple(files.windows),
    )


def _probe(path: Path, sample_rate: int) -> _Wav:
    with open_audio(path) as sound:
        check_rate(path, sound, sample_rate)
        return _Wav(sound.frames, sound.channels == 1 and sound.subtype in _FIT_INT16)


def _embedding_shape(reader: RowReader | None, packing: Packing) -> tuple[int, ...]:
    if reader is None:
        return ()
    tokens = {"pooled": (packing.n_frames,), "frame": (reader.n_tokens,)}.get(packing.kind, ())
    return (reader.size, *tokens)


def _write(path: Path, files: ClipFiles, header: PackedHeader, progress: bool) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(header.encode())
        n_rows = header.n_rows * (1 if files.reader is None else 2)
        with progress_of(f"packing {files.title}", n_rows, unit="row", shown=progress) as bar:
            for row in chain(_audio_rows(files, header), _window_rows(files, header)):
                file.write(row.tobytes())
                bar.update()
            file.write(bytes(align(file.tell()) - file.tell()))
            for row in _embedding_rows(files, header.packing):
                file.write(row.tobytes())
                bar.update()
        _sync(file)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _audio_rows(files: ClipFiles, header: PackedHeader) -> Iterator[NDArray[Any]]:
    """The slot of each clip."""
    sizes = np.diff(header.offsets)[: len(header.clip_ids)].tolist()
    work = list(zip(files.wavs, header.lengths, sizes, strict=True))
    return prefetch(partial(_slot, dtype=header.audio_dtype), work, READERS)


def _slot(work: tuple[Path, int, int], dtype: str) -> NDArray[Any]:
    """A clip's samples, padded with zeros."""
    path, length, size = work
    with open_audio(path) as sound:
        samples = to_mono(path, sound.read(dtype=dtype))
    if len(samples) != length:
        raise InputError(f"{path}: was replaced while it was packed; start again")
    slot = np.zeros(size, dtype=dtype)
    slot[:length] = samples
    return slot


def _window_rows(files: ClipFiles, header: PackedHeader) -> Iterator[NDArray[Any]]:
    """The slot of each window."""
    if files.long is None:
        return iter(())
    wav = dict(zip(files.clip_ids, files.wavs, strict=True))
    work = [(wav[key.clip_id], span) for key, span in files.windows.items()]
    read = partial(_window, windows=files.long.windows, dtype=header.audio_dtype)
    return prefetch(read, work, READERS)


def _window(work: tuple[Path, Span], windows: WindowGrid, dtype: str) -> NDArray[Any]:
    return read_window(work[0], windows, work[1], dtype)


def _embedding_rows(files: ClipFiles, packing: Packing) -> Iterator[NDArray[Any]]:
    """The embeddings of each clip and window."""
    if files.reader is None:
        return iter(())
    rows: list[RowName] = [*files.clip_ids, *files.windows]
    # One thread, as HDF5 serialises reads.
    return prefetch(partial(_embedding, reader=files.reader, packing=packing), rows, 1)


def _embedding(name: RowName, reader: RowReader, packing: Packing) -> NDArray[Any]:
    values = reader.global_(name) if packing.kind == "global" else reader.frame(name)
    if packing.kind == "pooled":
        # The network's own function, so that the values are the same.
        pooled = pool_tokens(torch.from_numpy(values).unsqueeze(0), packing.n_frames)
        values = pooled.squeeze(0).T.contiguous().numpy()
    if packing.dtype == "float16" and np.abs(values).max() > np.finfo(np.float16).max:
        raise InputError(
            f"{reader.path}: embeddings of {name} do not fit float16; set data.packed_dtype to "
            "float32"
        )
    return values.astype(packing.dtype)
