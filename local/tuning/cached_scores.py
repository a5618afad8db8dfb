"""Compute and cache the unfiltered scores of a checkpoint's teacher."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from desed_task.atomic_files import atomic_path, sha256_of
from desed_task.batch import SedBatch
from desed_task.checkpoints.safe_load import load_safely
from desed_task.evaluation.scores import Scores
from desed_task.parallel import track
from local.checkpoints.encoders.fine_tuned import encoder_in_checkpoint
from local.checkpoints.restore import load_networks
from local.config import RecipeConfig
from local.data.datamodule import SedDataModule
from local.data.summary_lines import left_out_line
from local.data.truth import Stage, Truth
from local.schema.published_keys import EARLIER_OBJECTIVES
from local.schema.task import ScoreKind
from local.sed_trainer_pretrained import SEDTask4
from local.task.corpus import Corpus
from local.tuning.workers.messages import Objective

ROLE = "teacher"
STAGES_OF_OBJECTIVE: dict[Objective, tuple[Stage, Literal["validate", "test"]]] = {
    "held_out": ("val", "validate"),
    "test": ("test", "test"),
}


class TeacherScores(NamedTuple):
    """A part of the data with the teacher's scores.

    Attributes:
        stage: how it is scored.
        scores: the network's scores (clip, frame, class), one for each truth.
        truths: ground truths of the corpora that are scored with events or segments, in the
            order of the task.
    """

    stage: Stage
    scores: tuple[Scores, ...]
    truths: tuple[Truth, ...]

    def of(self, kind: ScoreKind) -> tuple[Scores, Truth] | None:
        """Scores and truth of a kind of scores; None if the stage has none of it."""
        pairs = zip(self.scores, self.truths, strict=True)
        return next((one for one in pairs if one[1].part.kind == kind), None)


def teacher_scores(
    config: RecipeConfig, checkpoint: Path, part: Objective, folder: Path, device: torch.device
) -> TeacherScores:
    """Return the scores of a part, from the cache if they were computed from the same files.

    Args:
        config: configuration of the checkpoint, with the paths of this machine.
        checkpoint: path of the checkpoint.
        part: "held_out" or "test".
        folder: the cache, with one file per corpus.
        device: device that computes missing scores.

    Raises:
        InputError: for an unusable checkpoint or data.
    """
    stage, needed = STAGES_OF_OBJECTIVE[part]
    data = SedDataModule(config)
    data.check(needed)
    lines = (left_out_line(data.loaded), data.late_ends_line(), *data.long_clip_lines(needed))
    for line in lines:
        if line is not None:
            print(line)
    truths = data.truths(stage)
    identity = _identity(checkpoint, data, truths)
    corpora = tuple(dict.fromkeys(truth.part.corpus for truth in truths))
    kept = {corpus: _kept(folder, part, corpus, identity) for corpus in corpora}
    if any(scores is None for scores in kept.values()):
        kept = dict(_compute(config, checkpoint, part, data, corpora, device))
        for corpus, scores in kept.items():
            assert scores is not None
            _write(_path(folder, part, corpus), scores, identity)
    found = [kept[truth.part.corpus] for truth in truths]
    return TeacherScores(stage, tuple(one for one in found if one is not None), truths)


def is_cache(folder: Path) -> bool:
    """Whether a folder has files of the cache, also of earlier versions."""
    parts = (*STAGES_OF_OBJECTIVE, *EARLIER_OBJECTIVES)
    return any(any(folder.glob(f"{part}_*.npz")) for part in parts)


def _path(folder: Path, part: str, corpus: Corpus) -> Path:
    return folder / f"{part}_{corpus.scores_stem}.npz"


def _kept(folder: Path, part: Objective, corpus: Corpus, identity: str) -> Scores | None:
    """Cached scores of a corpus, also under the names of earlier versions."""
    earlier = [old for old, now in EARLIER_OBJECTIVES.items() if now == part]
    found = (_read(_path(folder, name, corpus), identity) for name in (part, *earlier))
    return next((scores for scores in found if scores is not None), None)


def _compute(
    config: RecipeConfig,
    checkpoint: Path,
    part: Objective,
    data: SedDataModule,
    corpora: Iterable[Corpus],
    device: torch.device,
) -> Iterator[tuple[Corpus, Scores]]:
    """Compute scores of corpora; as in a run, a validation masks unknown classes."""
    content = load_safely(checkpoint)
    module = SEDTask4(config, encoder_in_checkpoint(config, content, str(checkpoint)))
    load_networks(module, content["state_dict"], str(checkpoint))
    module = module.eval().to(device)
    masked = part == "held_out"
    loader: DataLoader[SedBatch] = data.val_dataloader() if masked else data.test_dataloader()
    step = module.validation_step if masked else module.test_step
    with torch.inference_mode():
        for batch in track(loader, f"scores of {part}", len(loader), unit="batch"):
            step(module.transfer_batch_to_device(batch, device, 0), 0)
    for corpus in corpora:
        yield corpus, module.score_accumulator.scores(ROLE, corpus)


def _identity(checkpoint: Path, data: SedDataModule, truths: tuple[Truth, ...]) -> str:
    """Identify the inputs of scores: checkpoint, frame times, clips and embeddings."""
    digest = hashlib.sha256(sha256_of(checkpoint).encode())
    digest.update(data.grid.boundaries_s.tobytes())
    for name, loaded in sorted(data.loaded.items()):
        files = [(wav.relative_to(loaded.folder).as_posix(), wav) for wav in loaded.wavs]
        if loaded.embeddings is not None:
            files += [(part.path.name, part.path) for part in loaded.embeddings.parts]
        for title, path in files:
            status = path.stat()
            line = f"{name}\t{title}\t{status.st_size}\t{status.st_mtime_ns}\n"
            digest.update(line.encode())
    # Which clips are scored: those held out for validation, by the current rules.
    scored_clips = [truth.events.clip_ids for truth in truths]
    digest.update(repr((scored_clips, data.config.data.audio_max_len)).encode())
    # How longer clips are scored.
    spans = {name: dict(one.long.spans) for name, one in data.loaded.items() if one.long}
    if any(spans.values()):
        digest.update(repr(sorted(spans.items())).encode())
    return digest.hexdigest()


def _read(path: Path, identity: str) -> Scores | None:
    """Return cached scores if they have the requested inputs."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["identity"]) != identity:
                return None
            return Scores.from_arrays(stored, "values")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # missing or truncated: computed again


def _write(path: Path, scores: Scores, identity: str) -> None:
    with atomic_path(path) as temporary:
        identified = {"identity": np.array(identity)}
        np.savez(temporary, **scores.arrays("values"), **scores.layout, **identified)
