"""Write packed sets of the corpora when missing or outdated, and open them on the chosen device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from desed_task.dataio.packed_clips import PackedClips
from desed_task.dataio.packed_format import EmbeddingKind, PackedSet, Packing
from desed_task.dataio.packed_writer import ClipFiles, pack
from desed_task.errors import count_of
from desed_task.labels import FrameGrid
from desed_task.parallel import progress_of
from local.config import RecipeConfig
from local.data.loaded_corpus import LoadedCorpus
from local.data.loading.memory_placement import Placement, choose_placement
from local.schema.encoders import BEATS
from local.stores.folders import folders_to_read
from local.task.corpus import Corpus


def choose_packing(config: RecipeConfig, grid: FrameGrid) -> Packing:
    """The contents of packed sets that a configuration needs."""
    kind: EmbeddingKind = "none"
    if config.reads_embeddings:
        # Other aggregations need all tokens.
        pooled = config.net.aggregation_type == "pool1d"
        kind = "pooled" if pooled else config.net.embedding_type
    data = config.data
    n_samples = round(data.audio_max_len * data.fs)
    return Packing(data.fs, n_samples, kind, grid.n_frames, data.packed_dtype)


def packed_path(corpus: Corpus, config: RecipeConfig, packing: Packing) -> Path:
    """Path of a corpus's packed set."""
    assert config.data.packed_dir is not None
    encoders = "" if packing.kind == "none" else _encoders(config)
    return Path(config.data.packed_dir) / f"{corpus.name}.{encoders}{packing.name}.packed"


def _encoders(config: RecipeConfig) -> str:
    """Part of a file's name, so that those of other encoders are not overwritten."""
    names = [folder.path.name for folder in folders_to_read(config.pretrained)]
    return "" if names == [BEATS] else f"{'+'.join(names)}."


def pack_corpora(
    corpora: Iterable[LoadedCorpus], config: RecipeConfig, grid: FrameGrid, *, progress: bool
) -> list[str]:
    """Write packed sets that are missing or outdated, with a line and a progress bar each.

    Returns:
        Names of the others, which are current.

    Raises:
        InputError: a clip cannot be used, or the disk is full.
    """
    packing = choose_packing(config, grid)
    current: list[str] = []
    for loaded in corpora:
        path = packed_path(loaded.corpus, config, packing)
        files = ClipFiles(
            loaded.corpus.title, loaded.clip_ids, loaded.wavs, loaded.embeddings, loaded.long
        )
        reason = pack(path, files, packing, progress=progress)
        if reason is None:
            current.append(loaded.corpus.name)
        else:
            header = PackedSet(path).header
            print(
                f"packed {count_of(len(header.clip_ids), 'clip')} of {loaded.corpus.title} "
                f"({header.audio_dtype} audio, {packing.name}) to {path}: {reason}"
            )
    return current


def open_packed(
    corpora: Iterable[LoadedCorpus],
    config: RecipeConfig,
    grid: FrameGrid,
    device: torch.device,
    *,
    n_processes: int = 1,
    tell: bool = True,
    current: Sequence[str] = (),
) -> dict[str, LoadedCorpus]:
    """The corpora with packed sets opened where `data.resident` requires.

    Args:
        corpora: corpora whose packed sets `pack_corpora` has written.
        config: configuration of the run.
        grid: label grid.
        device: device that the run computes on.
        n_processes: processes on this machine that each hold a copy.
        tell: whether to print where the sets are and show a progress bar.
        current: what `pack_corpora` returned, to be named.

    Returns:
        Name -> corpus.

    Raises:
        InputError: the sets do not fit where required, or a packed set cannot be used.
    """
    corpora, packing = list(corpora), choose_packing(config, grid)
    sets = [PackedSet(packed_path(one.corpus, config, packing)) for one in corpora]
    n_bytes = sum(one.n_bytes for one in sets)
    placement = choose_placement(config.data.resident, n_bytes, device, n_processes)
    if tell:
        text = f"packed sets: {placement.message}"
        if current:
            text += f"; not written again, as they are current: {', '.join(current)}"
        print(text)
    brought = _load_clips(sets, placement, tell and config.training.enable_progress_bar)
    return {
        loaded.corpus.name: replace(loaded, packed=clips)
        for loaded, clips in zip(corpora, brought, strict=True)
    }


def _load_clips(sets: list[PackedSet], placement: Placement, progress: bool) -> list[PackedClips]:
    if placement.device is None:
        return [PackedClips(one) for one in sets]
    title, total = f"reading packed sets to {placement.device}", sum(one.n_bytes for one in sets)
    with progress_of(title, total, unit="B", scaled=True, shown=progress) as bar:
        return [PackedClips(one, placement.device, bar) for one in sets]
