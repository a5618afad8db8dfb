"""BEATs embeddings of the clips of a folder in a file that is brought up to date, not made anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from desed_task.atomic_files import atomic_path, sha256_of
from desed_task.dataio.embedding_writer import EmbeddingWriter
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.encoders.beats.model import find_beats, load_beats
from desed_task.errors import InputError
from local.extraction.embedder import Embedder, Precision
from local.extraction.sets import REPEATS


@dataclass(frozen=True)
class Extractor:
    """Turns folders of clips into embedding files.

    Attributes:
        embedder: computes.
        identity: what makes embeddings comparable, stored with them: the weights, the length of
            a clip and the precision if it is not float32.
        folder: of the embedding files.
        progress: whether to show progress bars.
    """

    embedder: Embedder
    identity: dict[str, str | float]
    folder: Path
    progress: bool = True

    @classmethod
    def open(
        cls,
        checkpoint: Path,
        output_dir: Path,
        *,
        clip_s: float,
        device: torch.device,
        batch_size: int | None = None,
        precision: Precision = "32",
        progress: bool = True,
    ) -> Extractor:
        """With the weights of `checkpoint`, writing below `output_dir`.

        Args:
            checkpoint: file of BEATs weights.
            output_dir: the folder `beats` is made in it.
            clip_s: length of a clip in seconds.
            device: where to compute.
            batch_size: see `Embedder`.
            precision: see `Embedder`.
            progress: whether to show progress bars.

        Raises:
            InputError: the checkpoint is absent or cannot be used.
        """
        path = find_beats(checkpoint)
        embedder = Embedder(load_beats(path, device), device, clip_s, batch_size, precision)
        identity = identity_of(path, clip_s)
        if precision != "32":
            identity["precision"] = precision
        return cls(embedder, identity, output_dir / "beats", progress)

    def path(self, name: str) -> Path:
        """The file of a set."""
        return self.folder / f"{name}.hdf5"

    def extract(self, name: str, wavs: Sequence[Path]) -> list[str]:
        """Bring one set's file up to date with its clips.

        A file that has current embeddings of every clip is left alone. Otherwise those of clips
        that are new or newer than the file are computed, the others taken over; with other
        weights everything is computed. A clip that cannot be read leaves the set unfinished:
        embeddings that stand for no sound would go unnoticed in training.

        Args:
            name: of the set.
            wavs: its files.

        Returns:
            what was wrong with the files that could not be read.
        """
        clips = {wav.stem: wav for wav in wavs}
        reason = self._why_not_current(name, clips)
        if reason is None:
            print(f"{name}: {len(clips)} clips, all there already")
            return []
        if reason:
            print(f"{name}: {reason}")
        if name in REPEATS:
            return self._repeat(name)
        n_features, n_tokens = self.embedder.shape
        with EmbeddingWriter(
            self.path(name),
            list(clips),
            n_features=n_features,
            n_tokens=n_tokens,
            identity=self.identity,
        ) as writer:
            self._take_over(name, writer, clips)
            faults = self._compute(name, writer, clips)
            if not faults:
                writer.finish()
        what = f"not finished, {len(faults)} of" if faults else "finished,"
        print(f"{name}: {what} {len(clips)} clips{' cannot be read' if faults else ''}")
        return faults

    def _why_not_current(self, name: str, clips: dict[str, Path]) -> str | None:
        """None for a file to be left alone, "" for one that is not there yet."""
        path = self.path(name)
        if not path.exists():
            return ""
        try:
            reader = EmbeddingReader(path)
        except InputError as error:
            return f"done again: {error}"
        if (reader.size, reader.n_tokens) != self.embedder.shape:
            return f"done again: {path} is of another BEATs or clip length"
        # Published files do not say what they were computed with; they are believed.
        if reader.identity and reader.identity != self.identity:
            return f"done again: {path} is of other BEATs weights, clip length or precision"
        absent = reader.missing(clips)
        changed = set(clips_newer_than(clips, path)) - set(absent)
        if absent or changed:
            return f"{len(absent)} clips are new and {len(changed)} newer than {path}"
        return None

    def _repeat(self, name: str) -> list[str]:
        """A second name for another set's file; a copy where the disk knows no links."""
        source = self.path(REPEATS[name])
        if not source.exists():
            return []  # its faults are reported under its own name
        with atomic_path(self.path(name)) as temporary:
            temporary.unlink()
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copy2(source, temporary)
        print(f"{name}: the same as {REPEATS[name]}")
        return []

    def _take_over(self, name: str, writer: EmbeddingWriter, clips: dict[str, Path]) -> None:
        """Use what a killed run or an older file has, as long as the clip has not changed."""
        writer.forget(set(clips_newer_than(clips, writer.part)) - set(writer.todo))
        for donor in (writer.old, writer.path):
            if donor.exists():
                changed = set(clips_newer_than(clips, donor))
                writer.adopt(donor, [clip_id for clip_id in writer.todo if clip_id not in changed])
        n_done = len(clips) - len(writer.todo)
        if n_done:
            print(f"{name}: goes on, {n_done} of {len(clips)} clips are done")

    def _compute(self, name: str, writer: EmbeddingWriter, clips: dict[str, Path]) -> list[str]:
        todo = writer.todo
        self._check_space(name, len(todo))
        stream = self.embedder.stream([clips[clip_id] for clip_id in todo])
        faults: list[str] = []
        bar = tqdm(
            desc=name,
            total=len(clips),
            initial=len(clips) - len(todo),
            unit="clip",
            dynamic_ncols=True,
            disable=not self.progress,
        )
        with bar, closing(stream):
            for batch in stream:
                writer.put(batch.clip_ids, batch.frame.numpy(), batch.global_.numpy())
                faults += batch.faults
                bar.update(len(batch.clip_ids) + len(batch.faults))
        return faults

    def _check_space(self, name: str, n_clips: int) -> None:
        n_features, n_tokens = self.embedder.shape
        n_values = n_features * (n_tokens + 1)
        needed, free = 4 * n_values * n_clips, shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"{self.folder}: {name} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                "free some space or give another --output_dir"
            )


def identity_of(checkpoint: Path, clip_s: float) -> dict[str, str | float]:
    """What a file of embeddings is marked with: the weights and the length of a clip."""
    return {"checkpoint_sha256": sha256_of(checkpoint), "clip_s": clip_s}


def clips_newer_than(clips: Mapping[str, Path], file: Path) -> list[str]:
    """Clips whose sound was written after `file`; a link that leads nowhere is none of them."""
    written = file.stat().st_mtime
    there = ((clip_id, wav) for clip_id, wav in clips.items() if wav.exists())
    return [clip_id for clip_id, wav in there if wav.stat().st_mtime > written]
