"""Write pseudo-labels: frame logits of every training set by trained checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch

from desed_task.atomic_files import PathLike
from desed_task.audio.windows import WindowGrid
from desed_task.checkpoints.run_folders import find_checkpoint
from desed_task.dataio.row_stores.forms import PSEUDO_LABELS
from desed_task.dataio.row_stores.layout import (
    CHECKPOINT_SHA256,
    CLASSES,
    ENCODER_SHA256,
    NETWORK,
)
from desed_task.errors import InputError, count_of
from desed_task.inference.frame_logits import JointLogits
from desed_task.inference.scorers.opening import check_different, open_scorer
from local.config import RecipeConfig
from local.extraction.embedder import Precision, settled_for
from local.extraction.extractor import Extractor
from local.extraction.logits import LogitEmbedder
from local.extraction.machines import common_digest
from local.extraction.sets import corpora_of_sets, windows_of_sets
from local.processes.decisions import decided_by_first
from local.stores.identity import StoredIdentity

# Several values of an attribute.
JOINT: Final = "+"


def training_sets_of(config: RecipeConfig, only: Sequence[str] | None) -> tuple[str, ...]:
    """The sets whose pseudo-labels training reads, or some of them.

    Args:
        config: gives the sets.
        only: names of sets, with commas or as several words; None for all.

    Raises:
        InputError: a name is not that of a training set.
    """
    sets = tuple(dict.fromkeys(one.stem for one in config.detection_task.trained_on))
    if only is None:
        return sets
    chosen = [name.strip() for word in only for name in word.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in sets]
    if unknown or not chosen:
        wrong = f"{' '.join(unknown)}: no such training set" if unknown else "names no set"
        raise InputError(f"--only {wrong}; known: {', '.join(sets)}")
    return tuple(name for name in sets if name in chosen)


def open_labeller(
    config: RecipeConfig,
    checkpoints: Sequence[PathLike],
    folder: Path,
    *,
    role: str,
    encoders: Sequence[PathLike] | None = None,
    device: torch.device,
    batch_size: int | None = None,
    precision: Precision = "32",
    overwrite: bool = False,
    progress: bool = True,
) -> Extractor:
    """What writes pseudo-labels; all checkpoints are loaded first. Collective call.

    Args:
        config: task, clip length and windows, and where embeddings are stored.
        checkpoints: files or run folders.
        folder: of the pseudo-labels.
        role: "student" or "teacher".
        encoders: files of weights of a single checkpoint's encoders; None for those that each
            names or contains.
        device: device that computes.
        batch_size: see `Embedder`.
        precision: of encoders, asked for; see `settled_precision`.
        overwrite: see `Extractor`.
        progress: whether to show progress bars.

    Raises:
        InputError: a checkpoint cannot be used, has another task or other frames, or is given
            twice.
    """
    paths = [find_checkpoint(one) for one in checkpoints]
    if encoders is not None and len(paths) > 1:
        raise InputError(
            "--pretrained_model: it names the encoders of one checkpoint, and each finds its own, "
            f"but {count_of(len(paths), 'checkpoint')} are given; leave it out or give one"
        )
    scorers = [open_scorer(one, encoder=encoders, role=role, device=device) for one in paths]
    check_different(paths)
    # Sums of floats depend on the order; that of the command line shall not matter.
    digests = [common_digest(one, device) for one in paths]
    in_order = sorted(range(len(paths)), key=lambda place: digests[place])
    scorers = [scorers[place] for place in in_order]
    model = JointLogits(scorers, config.detection_task.classes, config.grid)
    identity = _identity(model, sorted(digests), role, config)
    joined = str(identity[CHECKPOINT_SHA256])
    precision = decided_by_first(lambda: settled_for(precision, device, folder, lambda: joined))
    if precision != "32":
        identity["precision"] = precision
    embedder = LogitEmbedder(
        model,  # type: ignore[arg-type]
        *(device, config.data.audio_max_len, batch_size, precision),
        model=model,
        stores=Path(config.pretrained.extracted_embeddings_dir),
    )
    windows = _windows(config)
    return Extractor(
        *(embedder, None, identity, folder, progress, windows, overwrite, PSEUDO_LABELS)
    )


def _identity(
    model: JointLogits, digests: Sequence[str], role: str, config: RecipeConfig
) -> StoredIdentity:
    """What pseudo-labels are computed with, in 32 bits."""
    of_encoders = (part.sha256 for encoder in model.encoders for part in encoder.parts)
    return {
        CHECKPOINT_SHA256: JOINT.join(digests),
        NETWORK: role,
        ENCODER_SHA256: JOINT.join(sorted({one for one in of_encoders if one})),
        CLASSES: "\n".join(config.detection_task.classes),
        "clip_s": config.data.audio_max_len,
    }


def _windows(config: RecipeConfig) -> dict[str, Callable[[], WindowGrid]]:
    """Windows of the sets that are trained on in windows; other longer clips are cropped."""
    in_windows = {
        name
        for name, corpora in corpora_of_sets(config).items()
        if any(one.trains_on_windows for one in corpora)
    }
    return {name: one for name, one in windows_of_sets(config).items() if name in in_windows}


def write_pseudo_labels(labeller: Extractor, wavs: Mapping[str, Mapping[str, Path]]) -> list[str]:
    """Update the pseudo-labels of all sets.

    Args:
        labeller: from `open_labeller`.
        wavs: set -> clip -> file.

    Returns:
        Faults of the files that could not be read, each once.

    Raises:
        InputError: see `Extractor.extract`.
    """
    labeller.check(wavs)
    print(f"pseudo-labels: {labeller.folder}")
    faults = [fault for name in wavs for fault in labeller.extract(name, wavs[name])]
    return list(dict.fromkeys(faults))
