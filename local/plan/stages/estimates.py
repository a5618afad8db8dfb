"""How long the stages of a plan may take and how much disk they need, before they run.

The rates are those of docs/speed.md: of one thread of a processor of the EPYC or Sapphire Rapids
generation, and of one H200. A stage that has run before, with whatever values, is its own measure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from desed_task.audio.clip_files import clip_files
from desed_task.encoders.weights_file import find_weights
from desed_task.errors import InputError
from local.config import RecipeConfig
from local.data.presence import is_mini
from local.extraction.sets import choose_sets, corpora_of_sets
from local.plan.folder import DONE_FILE
from local.plan.reading import PlannedStage
from local.plan.schema import EmbeddingsStage, PseudoLabelsStage
from local.plan.stage_time import seconds_of
from local.prep.published_sizes import PUBLISHED_CLIPS
from local.task.corpus import Corpus
from local.task.reading import DEFAULT_TASK
from local.tuning.workers.device_slots import DeviceSlot


class _Rates(NamedTuple):
    """Seconds per clip of the published network and of an encoder of 90 M parameters.

    A GPU starts many small kernels one after the other, so that a step has a least time there.
    """

    step: float  # student and teacher forwards, backwards
    least_step: float  # of a step, however few its clips
    encoder: float  # forwards
    extraction: float  # with reading and writing


_THREAD: Final = _Rates(2.39 / 20, 0.0, 0.825, 0.83)
_GPU: Final = _Rates(0.051 / 60, 0.05, 0.0024, 0.0049)
# Of a GPU's time in bfloat16 or half precision, encoders only.
_HALF_ON_GPU = 1.1 / 2.4
# Multiply-accumulates of the published network's convolutions per clip, and bytes of an encoder.
_PUBLISHED_MACS, _ENCODER_BYTES = 0.70e9, 90e6 * 4
# Of a step: the part that does not shrink with the network.
_LEAST_SHARE = 0.02
# Frames of embeddings of a clip, features, bytes: those of BEATs, the most of all encoders.
_EMBEDDING_BYTES = 496 * 768 * 4
_CHECKPOINT_BYTES = 30e6


class Estimate(NamedTuple):
    """What a stage may need.

    Attributes:
        seconds: time; None if it is not known.
        bytes: disk; None if it is not known.
        measured: whether the stage has run before.
        published: whether published corpora are assumed, of which no clips are on disk.
    """

    seconds: float | None = None
    bytes: float | None = None
    measured: bool = False
    published: bool = False


def estimate_of(stage: PlannedStage, parent: Path, slot: DeviceSlot) -> Estimate:
    """What a stage may need.

    Args:
        stage: the stage.
        parent: folder of all its runs.
        slot: a device.
    """
    before = [done.parent for done in parent.glob(f"*/{DONE_FILE}")]
    if before:
        newest = max(before, key=lambda folder: folder.stat().st_mtime_ns)
        size = sum(one.stat().st_size for one in newest.rglob("*") if one.is_file())
        return Estimate(seconds_of(newest), size, measured=True)
    found = _projected(stage, _THREAD if slot.gpu is None else _GPU, slot)
    return found._replace(published=found.seconds is not None and _has_no_clips(stage.config))


def _projected(stage: PlannedStage, rates: _Rates, slot: DeviceSlot) -> Estimate:
    config = stage.config
    if is_mini(config.detection_task.trained_on) and _has_no_clips(config):
        return Estimate()  # The plan makes them, and the encoders.
    share = 1.0 if slot.gpu is not None else 1 / slot.threads
    if stage.spec.kind == "train":
        return _of_training(config, rates, share)
    if isinstance(stage.spec, EmbeddingsStage):
        sets = choose_sets(config, None, eval_set=stage.spec.eval_set)
        of_sets = corpora_of_sets(config)
        n_clips = _clips(config, [one for name in sets for one in of_sets.get(name, ())])
        if n_clips is None:
            return Estimate()
        size = _encoder_size(config)
        return Estimate(
            n_clips * size * rates.extraction * share,
            n_clips * _EMBEDDING_BYTES * min(1.0, 2 * math.sqrt(size)),
        )
    if isinstance(stage.spec, PseudoLabelsStage):
        n_clips = _clips(config, config.detection_task.trained_on)
        if n_clips is None:
            return Estimate()
        each = rates.step * _network_size(config) / 4 + rates.encoder * _encoder_size(config)
        bytes_ = n_clips * config.grid.n_frames * len(config.detection_task.classes) * 4
        return Estimate(n_clips * each * len(stage.spec.checkpoints) * share, bytes_)
    return Estimate()


def _of_training(config: RecipeConfig, rates: _Rates, share: float) -> Estimate:
    steps = steps_per_epoch(config)
    pretrained = config.pretrained
    size = _encoder_size(config) if pretrained.e2e and config.net.use_embeddings else 0.0
    # Of both roles; moments of the optimizer of what is trained.
    copies = 2 if pretrained.freezed else 4
    bytes_ = 2 * (_CHECKPOINT_BYTES * _network_size(config) + copies * size * _ENCODER_BYTES)
    if steps is None:
        return Estimate(None, bytes_)
    rows = sum(part.rows for part in config.detection_task.batch)
    passes = (1 if pretrained.freezed else 4) + pretrained.gradient_checkpointing
    is_half = rates is _GPU and str(config.training.precision) in ("16", "bf16")
    half = _HALF_ON_GPU if is_half else 1.0
    network = max(rates.least_step, rows * rates.step * _network_size(config))
    each = network + rows * passes * rates.encoder * half * size
    return Estimate(config.training.n_epochs * steps * each * share, bytes_)


def steps_per_epoch(config: RecipeConfig) -> int | None:
    """Batches of an epoch; None if no number of clips is known."""
    found = []
    for part in config.detection_task.batch:
        n_clips = _clips(config, part.corpora)
        if n_clips is None:
            return None
        found.append(n_clips // part.rows)
    return max(1, min(found, default=1))


def _clips(config: RecipeConfig, corpora: Sequence[Corpus]) -> int | None:
    """Clips that are trained on, of those on disk, or of the published ones where none is; None for
    other corpora that are not on disk.
    """
    total = 0
    for corpus in corpora:
        n_clips = len(clip_files(corpus.folder)) or _published_clips(config, corpus)
        if not n_clips:
            return None
        split = corpus.split
        train = None if isinstance(split, str) else split.train
        total += n_clips if train is None else int(n_clips * train)
    return total


def _published_clips(config: RecipeConfig, corpus: Corpus) -> int:
    is_published = config.detection_task.name == DEFAULT_TASK and not is_mini([corpus])
    return PUBLISHED_CLIPS.get(corpus.name, 0) if is_published else 0


def _has_no_clips(config: RecipeConfig) -> bool:
    """Whether a corpus that is trained on has no clips on disk."""
    return any(not clip_files(corpus.folder) for corpus in config.detection_task.trained_on)


def _network_size(config: RecipeConfig) -> float:
    """Multiply-accumulates of the convolutions, as a share of those of the published network."""
    frames = config.grid.n_frames * config.data.net_subsample
    bands, channels = config.feats.n_mels, 1
    macs = 0.0
    for filters, kernel, (time, frequency) in zip(
        config.net.nb_filters, config.net.kernel_size, config.net.pooling, strict=True
    ):
        macs += frames * bands * channels * filters * kernel**2
        frames, bands, channels = frames // time, bands // frequency, filters
    return max(_LEAST_SHARE, macs / _PUBLISHED_MACS)


def _encoder_size(config: RecipeConfig) -> float:
    """Bytes of the encoders' weights as a share of those of a full encoder; 1 each if absent."""
    total = 0.0
    for choice in config.pretrained.encoders:
        try:
            total += find_weights(choice.file, choice.name).stat().st_size / _ENCODER_BYTES
        except (InputError, OSError):
            total += 1.0
    return total
