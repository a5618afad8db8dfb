"""Extract embeddings of a set, computing only those that are missing or outdated."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from pathlib import Path

import torch

from desed_task.atomic_files import atomic_path
from desed_task.audio.files import probe
from desed_task.audio.windows import LongClips, RowName, WindowGrid, WindowKey
from desed_task.dataio.embedding_writer import EmbeddingWriter
from desed_task.dataio.embeddings import EmbeddingLayout
from desed_task.dataio.row_stores.forms import EMBEDDINGS, StoreForm
from desed_task.dataio.row_stores.layout import store_form_at
from desed_task.dataio.row_stores.unfinished import old_of, part_of, parts_of_others
from desed_task.distributed.collectives import gathered_by_first, n_processes
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.weights_file import find_weights
from desed_task.errors import InputError, command_name, count_of
from desed_task.parallel import progress_of, thread_map
from local.extraction.batches import (
    Batch,
    SetWork,
    batches_of,
    counted_together,
    embed_batches,
    fair_share,
    given_out,
)
from local.extraction.embedder import Embedder, FileWindow, Precision, SetFiles
from local.extraction.machines import check_shared, common_digest
from local.extraction.parts import merge, take_over
from local.processes.decisions import decided_by_first
from local.processes.group import group_here
from local.schema.encoders import EncoderChoice
from local.schema.published_keys import REPEATED_SETS
from local.stores.folders import StoreFolder, folder_to_write, recorded, why_foreign
from local.stores.identity import StoredIdentity, identity_of
from local.stores.up_to_date import tell_unrecorded, why_outdated

# Threads that read headers.
_N_PROBES = 8


@dataclass(frozen=True)
class Extractor:
    """Writes embedding files of sets of clips.

    Attributes:
        embedder: computes the embeddings.
        choice: the encoder, the file of its weights and the number of its blocks; None for
            pseudo-labels.
        identity: stored with embeddings, which are comparable if it is equal: encoder, weights,
            clip length and, if not float32, precision.
        folder: folder of the embedding files.
        progress: whether to show progress bars.
        windows: set -> what gives the windows of its longer clips; those of other sets are cropped.
        overwrite: whether to replace embedding files that this program did not write; files of
            another form are never replaced.
        form: kind of the files.
    """

    embedder: Embedder
    choice: EncoderChoice | None
    identity: StoredIdentity
    folder: Path
    progress: bool = True
    windows: Mapping[str, Callable[[], WindowGrid]] = field(default_factory=dict)
    overwrite: bool = False
    form: StoreForm = EMBEDDINGS

    @classmethod
    def open(
        cls,
        choice: EncoderChoice,
        output_dir: Path,
        *,
        clip_s: float,
        device: torch.device,
        batch_size: int | None = None,
        precision: Precision = "32",
        progress: bool = True,
        windows: Mapping[str, Callable[[], WindowGrid]] | None = None,
        overwrite: bool = False,
    ) -> Extractor:
        """An extractor of embeddings of an encoder that writes below `output_dir`.

        Collective call: every process must reach it.

        Args:
            choice: encoder, file of its weights and blocks that are computed.
            output_dir: parent of the folder, see `folder_to_write`.
            clip_s: length of a clip in seconds.
            device: device that computes.
            batch_size: see `Embedder`.
            precision: see `Embedder`.
            progress: whether to show progress bars.
            windows: see the class.
            overwrite: whether to replace embedding files that this program did not write.

        Raises:
            InputError: the file is missing, holds another encoder or cannot be used.
        """
        path = find_weights(choice.file, choice.name)
        encoder = load_encoder(path, choice.name, device)
        if choice.n_blocks is not None:
            try:
                encoder.stop_after(choice.n_blocks)
            except InputError as error:
                raise InputError(f"pretrained.n_blocks: {error}") from None
        embedder = Embedder(encoder, device, clip_s, batch_size, precision)
        sha256 = common_digest(path, device)
        identity = identity_of(choice, sha256, clip_s)
        if precision != "32":
            identity["precision"] = precision
        folder = decided_by_first(lambda: folder_to_write(output_dir, choice, sha256))
        return cls(embedder, choice, identity, folder, progress, windows or {}, overwrite)

    def path(self, name: str) -> Path:
        """The file of a set."""
        return self.folder / f"{name}.hdf5"

    def check(self, sets: Mapping[str, Mapping[str, Path]]) -> None:
        """Check that no set's file would replace one that this program did not write.

        Args:
            sets: set -> clip -> file.

        Raises:
            InputError: naming all such files, and those of another form.
        """
        decided_by_first(lambda: self._check(sets))

    def _check(self, sets: Mapping[str, Mapping[str, Path]]) -> None:
        problems = []
        for name, clips in sets.items():
            try:
                self._refuse_other_form(name)
                long = self._long_clips(name, clips)
                self._why_not_current(name, clips, () if long is None else long.further)
            except InputError as error:
                problems.append(str(error))
        if problems:
            raise InputError.collect(problems)

    def extract(self, name: str, clips: Mapping[str, Path]) -> list[str]:
        """Update the embeddings file of a set.

        A complete and current file is left alone. Otherwise embeddings of clips that are new or
        have changed are computed and the others reused; with other weights all are computed.
        Clips that have windows get a row for every window.
        If a clip cannot be read, the set stays unfinished, since training would not notice a
        missing or made-up embedding.

        Args:
            name: name of the set.
            clips: clip -> file, of the whole set.

        Returns:
            Faults of the files that could not be read.

        Raises:
            InputError: see `check`; or another run writes the file, or the disk is full.
        """
        work = decided_by_first(lambda: self._begin(name, clips))
        if work is None:
            return []
        group = group_here()
        with ExitStack() as files:
            writer, batches = decided_by_first(
                lambda: self._open(name, clips, work, files), told=lambda begun: (None, begun[1])
            )
            if writer is None:
                assert group is not None
                writer = files.enter_context(self._writer(name, work, group.world.rank + 1))
            windows = [row for row in work.files if isinstance(row, WindowKey)]
            embedder = self.embedder.for_set(name, SetFiles(clips, windows))
            faults = self._compute(name, writer, work, batches, embedder)
            if group is None or group.world.is_first:
                merge(writer, 1 if group is None else group.world.size)
                if not faults:
                    writer.finish()
        what = f"not finished, {len(faults)} of" if faults else "finished,"
        print(f"{name}: {what} {work.counted}{' cannot be read' if faults else ''}")
        return faults

    def _begin(self, name: str, clips: Mapping[str, Path]) -> SetWork | None:
        """What is to be computed of a set; None if nothing is."""
        long = self._long_clips(name, clips)
        windows = {} if long is None else long.further
        counted = f"{count_of(len(clips), 'clip')}"
        if long is not None:
            counted += (
                f" ({len(long.spans)} of them longer: {count_of(len(windows), 'further window')})"
            )
        self._refuse_other_form(name)
        reason = self._why_not_current(name, clips, windows)
        if reason is None:
            tell_unrecorded(self.path(name))
            print(f"{name}: {counted}, already up to date")
            return None
        if reason:
            print(f"{name}: {reason}")
        if name in REPEATED_SETS:
            self._repeat(name)
            return None
        layout = EmbeddingLayout(
            tuple(clips), *self.embedder.shape, dict(self.identity), tuple(windows), self.form
        )
        files: dict[RowName, Path | FileWindow] = {**clips}
        if long is not None:
            for key, span in windows.items():
                files[key] = FileWindow(clips[key.clip_id], long.windows, span)
        return SetWork(layout, files, counted, "clip" if long is None else "window")

    def _long_clips(self, name: str, clips: Mapping[str, Path]) -> LongClips | None:
        """The clips of a set that have windows; unreadable files have none."""
        windows = self.windows.get(name)
        if windows is None:
            return None
        look = thread_map(
            _duration_s,
            list(clips.values()),
            jobs=_N_PROBES,
            desc=f"checking {name}",
            progress=False,
        )
        durations_s = dict(zip(clips, look, strict=True))
        return LongClips.among(durations_s, self.embedder.clip_s, windows)

    def _why_not_current(
        self, name: str, clips: Mapping[str, Path], windows: Iterable[WindowKey]
    ) -> str | None:
        """Reason to extract; None if the file is current, "" if it does not exist."""
        path = self.path(name)
        if not os.path.lexists(path):
            return ""
        foreign = self._why_foreign(path)
        if foreign and not self.overwrite:
            raise InputError(f"{path}: {foreign}; move it away, or replace it with --overwrite")
        if foreign and self.choice is None:
            return f"replaced: {path} {foreign}"
        reason, ours = why_outdated(
            path, clips, windows, self.embedder.shape, self.identity, self.form
        )
        if reason and not (ours or self.overwrite):
            raise InputError(
                f"{path.name}: {reason}; {command_name('extract_embeddings.py')} did not write "
                "this file: move it away, or replace it with --overwrite"
            )
        return reason

    def _refuse_other_form(self, name: str) -> None:
        """Refuse to replace rows of another kind, finished or not, whoever wrote them."""
        path = self.path(name)
        others = parts_of_others(path) if path.parent.is_dir() else []
        for file in (path, part_of(path), old_of(path), *others):
            form = store_form_at(file)
            if form not in (None, self.form):
                raise InputError(
                    f"{file}: has {form.what}, not {self.form.what}; give another "
                    f"{self.form.folder_flag}"
                )

    def _why_foreign(self, path: Path) -> str:
        """Why a file is not one of these; "" if it may be, or is damaged."""
        identity = recorded(path)
        if self.choice is not None:
            return why_foreign(StoreFolder(self.choice, self.folder), identity or {})
        return "" if identity is None or identity else "does not say which checkpoints it is of"

    def _repeat(self, name: str) -> None:
        """Hard-link another set's file under this name; copy it if links are not supported."""
        source = self.path(REPEATED_SETS[name])
        if not source.exists():
            return  # that set's faults are reported under its own name
        with atomic_path(self.path(name)) as temporary:
            temporary.unlink()
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copy2(source, temporary)
        print(f"{name}: the same as {REPEATED_SETS[name]}")

    def _writer(self, name: str, work: SetWork, number: int) -> EmbeddingWriter:
        """The writer of a process, counted from 1."""
        clip_ids, n_features, n_tokens, identity, windows, form = work.layout
        return EmbeddingWriter(
            self.path(name),
            clip_ids,
            n_features=n_features,
            n_tokens=n_tokens,
            identity=identity,
            windows=windows,
            number=number,
            form=form,
        )

    def _open(
        self, name: str, clips: Mapping[str, Path], work: SetWork, files: ExitStack
    ) -> tuple[EmbeddingWriter | None, list[Batch]]:
        """The writer of the first process, which `files` closes, and the batches that are left."""
        writer = files.enter_context(self._writer(name, work, 1))
        take_over(name, writer, clips, progress=self.progress)
        self._check_space(name, len(writer.todo))
        rows = work.layout.rows
        return writer, batches_of(rows, writer.todo, self.embedder.rows_per_batch)

    def _compute(
        self,
        name: str,
        writer: EmbeddingWriter,
        work: SetWork,
        batches: Sequence[Batch],
        embedder: Embedder,
    ) -> list[str]:
        """Compute batches together with the other processes; in the first one, all faults."""
        group = group_here()
        n_rows, n_left = len(work.layout.rows), sum(map(len, batches))
        is_first = group is None or group.world.is_first
        if group is not None:
            check_shared(self.path(name), writer.part, group, self.form)
        bar = progress_of(
            name,
            n_rows,
            initial=n_rows - n_left,
            unit=work.unit,
            shown=self.progress and is_first,
        )
        with counted_together(bar, name, group) as count:
            faults = embed_batches(
                embedder,
                writer,
                work.files,
                batches,
                given_out(len(batches), name, group),
                most=fair_share(len(batches), group),
                count=count,
            )
            if not is_first:
                writer.close()
            of_all = gathered_by_first(faults)
        in_order = sorted(chain(*of_all), key=itemgetter(0))
        # A fault of a file concerns all its windows.
        return list(dict.fromkeys(text for _, text in in_order))

    def _check_space(self, name: str, n_clips: int) -> None:
        n_features, n_tokens = self.embedder.shape
        n_values = n_features * (n_tokens + 1)
        if n_processes() > 1:
            # While they are copied, the rows of one process are there twice.
            n_clips += -(-n_clips // n_processes())
        needed, free = 4 * n_values * n_clips, shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"{self.folder}: {name} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                f"free some space or give another {self.form.folder_flag}"
            )


def _duration_s(wav: Path) -> float:
    try:
        return probe(wav).duration_s
    except InputError:
        return 0.0  # reported when its samples are read
