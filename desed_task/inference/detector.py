"""Detect sound events in recordings with a trained checkpoint.

    detector = SoundEventDetector.from_checkpoint("exp/mini/version_0")
    found = detector.detect(waveform, 44100)
    found.events[0]  # SoundEvent(onset_s=1.28, offset_s=2.56, label='Dog', confidence=0.93)

A recording is cut into overlapping windows of the length that the network was trained on; their
scores are overlap-added (`desed_task.inference.overlap_add`), decoded over the whole recording (by
the decoder of the checkpoint: class-wise median filters, or event boxes) and compared with a
threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from desed_task.atomic_files import PathLike, sha256_of
from desed_task.audio.streaming import stream_array
from desed_task.audio.windows import Waveform, Window, WindowGrid
from desed_task.checkpoints.run_folders import find_checkpoint
from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import Detector, DetectorSpec, detector_of
from desed_task.encoders.interface import EmbeddingModel, check_encoder
from desed_task.errors import InputError
from desed_task.evaluation.scores import FrameScores
from desed_task.inference.detection_result import DetectionResult as DetectionResult
from desed_task.inference.detection_result import SoundEvent as SoundEvent
from desed_task.inference.detection_result import one_clip, result_of
from desed_task.inference.encoder_files import (
    GivenEncoder,
    encoder_of_checkpoint,
    refuse_other_encoders,
)
from desed_task.inference.overlap_add import OverlapAdd, ScoreRows
from desed_task.inference.tuned_values import TunedValues, post_processing
from desed_task.mean_teacher import ROLES
from desed_task.parallel import prefetch
from desed_task.postprocess import Threshold
from desed_task.postprocess.calibration import confidence_in_words
from desed_task.postprocess.decoders import MEDIAN
from desed_task.postprocess.event_rules import NO_RULES, EventRules
from desed_task.postprocess.ruled_events import ClassRules

# BEATs' patches last 0.16 s: two of them are 5 frames, so with multiples of 0.32 s all windows but
# a recording's last have frames and patches on common grids. Scores of a mini network jump by 0.13
# where adjacent windows meet, by 0.009 with this hop, and by 0.006 between any two frames.
DEFAULT_HOP_S: Final = 5.12
# Windows per batch; on the CPU per thread, as more would not fit its caches.
_BATCH_GPU, _BATCH_CPU = 32, 4


class SoundEventDetector:
    """A network with its front end, embeddings and post-processing, for recordings of any length.

    Args:
        detector: a loaded checkpoint (`desed_task.checkpoints.spec.load_detector`).
        encoder: the encoder; a network that takes no embeddings needs none.
        role: "student" or "teacher"; None for the network that `tuned` is for, or the student, by
            which validation selects checkpoints.
        device: where to compute.
        hop_s: seconds from one window to the next, rounded to whole frames.
        batch_size: windows per batch (on the CPU per thread); None for 32 on a GPU, else 4.
        tuned: decoder, thresholds and calibration that were tuned for the checkpoint.
        decoder: another kind of decoder ("median", "boxes" or "threshold_boxes"), or settings that
            replace those of the checkpoint or of `tuned`.
        calibrated: whether confidences are calibrated; None for whether `tuned` can.

    Raises:
        InputError: for an unknown role, a hop out of range, a BEATs that does not fit, and
            post-processing that cannot be meant (`desed_task.inference.tuned_values`).
    """

    def __init__(
        self,
        detector: Detector,
        *,
        encoder: EmbeddingModel | None = None,
        role: str | None = None,
        device: torch.device | str = "cpu",
        hop_s: float = DEFAULT_HOP_S,
        batch_size: int | None = None,
        tuned: TunedValues | None = None,
        decoder: str | Mapping[str, Any] | None = None,
        calibrated: bool | None = None,
    ) -> None:
        role = role or (tuned.network if tuned else "") or ROLES[0]
        if role not in detector.networks:
            raise InputError(f"no network {role!r}; known: {', '.join(detector.networks)}")
        self.spec, self.device = detector.spec, torch.device(device)
        self.network = detector.networks[role].eval().to(self.device)
        self.front_end = detector.front_end.eval().to(self.device)
        self.encoder = None
        if self.network.embedding_size:
            self.encoder = _fitting(encoder, self.network.embedding_size, self.spec)
            self.encoder.to(self.device)
        self.labels = tuple(self.spec.classes)
        self.windows = WindowGrid.with_hop(self.spec.grid, hop_s)
        self.post_processing = post_processing(
            self.spec, role, tuned=tuned, decoder=decoder, calibrated=calibrated
        )
        self.decode = self.post_processing.decoder(self.labels)
        on_gpu = self.device.type != "cpu"
        self.batch_size = batch_size or (_BATCH_GPU if on_gpu else _BATCH_CPU)

    @classmethod
    def from_checkpoint(
        cls,
        path: PathLike,
        *,
        encoder: GivenEncoder = None,
        role: str | None = None,
        device: torch.device | str = "cpu",
        hop_s: float = DEFAULT_HOP_S,
        batch_size: int | None = None,
        tuned: TunedValues | None = None,
        decoder: str | Mapping[str, Any] | None = None,
        calibrated: bool | None = None,
    ) -> SoundEventDetector:
        """Load the detector of a checkpoint, ours or a published one; no code of the file is run.

        Args:
            path: the checkpoint, or a run folder, which stands for its best one.
            encoder: file of the encoder's weights, several where the network takes embeddings of
                several, or the encoder; None for the files that the checkpoint names
                (`desed_task.inference.encoder_files`). Ignored if the network takes no embeddings.
            role, device, hop_s, batch_size, decoder, calibrated: see the class.
            tuned: values that were tuned for this checkpoint, by its SHA-256.

        Raises:
            InputError: for files that cannot be used or are not found; see also the class.
        """
        place = find_checkpoint(path)
        if tuned is not None:
            tuned.check_checkpoint(sha256_of(place), str(place))
        checkpoint = load_safely(place)
        loaded = detector_of(checkpoint, str(place))
        model = encoder_of_checkpoint(place, checkpoint, loaded.spec, encoder)
        return cls(
            loaded,
            encoder=model,
            role=role,
            device=device,
            hop_s=hop_s,
            batch_size=batch_size,
            tuned=tuned,
            decoder=decoder,
            calibrated=calibrated,
        )

    def class_rules(
        self, threshold: Threshold | None = None, rules: EventRules = NO_RULES
    ) -> ClassRules:
        """Thresholds and rules of each class, checked; arguments and errors as for `detect`."""
        limit = self.post_processing.threshold if threshold is None else threshold
        boxes = self.post_processing.settings.kind != MEDIAN
        return rules.of_classes(self.labels, limit, boxes=boxes)

    @property
    def confidence_is(self) -> str:
        """What the confidence of events is, in words."""
        return confidence_in_words(self.post_processing.calibration, self.labels)

    def detect(
        self,
        waveform: npt.ArrayLike,
        sample_rate: int,
        *,
        threshold: Threshold | None = None,
        rules: EventRules = NO_RULES,
    ) -> DetectionResult:
        """Events and scores of a recording in memory.

        Args:
            waveform: (sample,) or (sample, channel), floats in [-1, 1], of any length.
            sample_rate: Hz, any.
            threshold: one for all classes, or label -> threshold (0.5 for other labels); None for
                tuned ones, or 0.5.
            rules: hysteresis, shortest events, joined gaps, merged classes.

        Raises:
            InputError: for a waveform without samples, of another shape or not finite, for a
                threshold of an unknown label or outside [0, 1), and for rules that do not fit.
        """
        blocks = stream_array(waveform, sample_rate, self.spec.sample_rate)
        return self.detect_blocks(blocks, threshold=threshold, rules=rules)

    def detect_blocks(
        self,
        blocks: Iterable[Waveform],
        *,
        threshold: Threshold | None = None,
        rules: EventRules = NO_RULES,
        progress: Callable[[float], None] | None = None,
    ) -> DetectionResult:
        """Events and scores of a recording that is streamed in blocks and not kept in memory.

        Args:
            blocks: (sample,) each, of any length, at the rate of the network
                (`desed_task.audio.streaming`).
            threshold: as for `detect`.
            rules: as for `detect`.
            progress: called with the number of seconds newly scored.

        Raises:
            InputError: as `detect`.
        """
        ruled = self.class_rules(threshold, rules)
        lengths, rows = [0], []
        for scores in self.score_blocks(_measured(blocks, lengths)):
            rows.append(scores)
            if progress is not None:
                progress(len(scores) * self.windows.grid.frame_s)
        return self._found(np.concatenate(rows), sum(lengths), ruled)

    def score_blocks(self, blocks: Iterable[Waveform]) -> Iterator[ScoreRows]:
        """The network's scores (frame, class), as soon as they are final; see `detect_blocks`."""
        adder = OverlapAdd(self.windows, len(self.labels))
        for batch, scores in self._computed(_batches(self.windows.cut(blocks), self.batch_size)):
            for window, of_window in zip(batch, scores, strict=True):
                yield adder.add(window, of_window)

    def _computed(
        self, batches: Iterator[list[Window]]
    ) -> Iterator[tuple[list[Window], ScoreRows]]:
        """Scores (window, frame, class) of batches, while the next ones are read."""
        start = list(islice(batches, 2))
        if self.device.type != "cpu":
            yield from prefetch(self._score, chain(start, batches), 1)
        elif len(start) < 2:
            yield from map(self._score, start)
        else:
            # One batch per core is faster than all cores on one batch.
            n_threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                yield from prefetch(self._score, chain(start, batches), n_threads)
            finally:
                torch.set_num_threads(n_threads)

    @torch.inference_mode()
    def _score(self, batch: list[Window]) -> tuple[list[Window], ScoreRows]:
        waveform = torch.from_numpy(np.stack([window.waveform for window in batch]))
        waveform = waveform.to(self.device)
        found = self.network(self.front_end(waveform), self._embedded(waveform))
        return batch, found.strong.transpose(1, 2).float().cpu().numpy()

    def _embedded(self, waveform: Tensor) -> Tensor | None:
        if self.encoder is None:
            return None
        embeddings = self.encoder.embed(waveform)
        of_clips = self.spec.net.get("embedding_type") == "global"
        embedding: Tensor = embeddings.global_ if of_clips else embeddings.frame
        return embedding

    def _found(self, unprocessed: ScoreRows, n_samples: int, rules: ClassRules) -> DetectionResult:
        if not np.isfinite(unprocessed).all():
            raise InputError(
                "scores are not finite: the network has diverged; use another checkpoint"
            )
        duration_s = n_samples / self.spec.sample_rate
        grid = replace(self.spec.grid, n_frames=len(unprocessed), clip_s=duration_s)
        raw = FrameScores(unprocessed, grid.boundaries_s)
        decoded = self.decode(one_clip(raw, self.labels))
        return result_of(raw, decoded, duration_s, rules, self.post_processing.calibration)


def _fitting(encoder: EmbeddingModel | None, size: int, spec: DetectorSpec) -> EmbeddingModel:
    """The encoder, after checking as far as possible that the network was trained with it."""
    if encoder is None:
        raise InputError(
            f"the network takes embeddings of {size} features; give the file of weights that "
            "they were extracted with"
        )
    refuse_other_encoders(encoder, spec.encoders)
    check_encoder(encoder, size=size, sample_rate=spec.sample_rate)
    return encoder


def _batches(windows: Iterator[Window], size: int) -> Iterator[list[Window]]:
    while batch := list(islice(windows, size)):
        yield batch


def _measured(blocks: Iterable[Waveform], lengths: list[int]) -> Iterator[Waveform]:
    """Yield the blocks and append their lengths to `lengths`."""
    for block in blocks:
        lengths.append(len(block))
        yield block
