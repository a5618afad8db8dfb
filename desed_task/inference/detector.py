"""Detect sound events in recordings with a trained checkpoint.

    detector = SoundEventDetector.from_checkpoint("exp/mini/version_0")
    found = detector.detect(waveform, 44100)
    found.events[0]  # SoundEvent(onset_s=1.28, offset_s=2.56, label='Dog', confidence=0.93)

    detector = SoundEventDetector.from_pretrained("atst_frame_strong")  # 447 classes of AudioSet

A recording is cut into overlapping windows of the length that the network was trained on; their
scores are overlap-added (`desed_task.inference.overlap_add`), decoded over the whole recording (by
the decoder of the checkpoint: class-wise median filters, or event boxes) and compared with a
threshold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from desed_task.atomic_files import PathLike
from desed_task.audio.streaming import stream_array
from desed_task.audio.windows import Waveform
from desed_task.audioset.released_files import released_file
from desed_task.checkpoints.file_kind import holds_event_head
from desed_task.checkpoints.run_folders import find_checkpoint
from desed_task.checkpoints.spec import Detector, DetectorSpec, FrontEnd
from desed_task.encoders.interface import EmbeddingModel
from desed_task.encoders.weights_file import WEIGHTS_FOLDER
from desed_task.errors import InputError
from desed_task.evaluation.scores import FrameScores
from desed_task.inference.detection_result import DetectionResult as DetectionResult
from desed_task.inference.detection_result import SoundEvent as SoundEvent
from desed_task.inference.detection_result import one_clip, result_of
from desed_task.inference.encoder_files import GivenEncoder
from desed_task.inference.overlap_add import ScoreRows
from desed_task.inference.scorers.class_columns import wanted_classes
from desed_task.inference.scorers.crnn import CrnnScorer
from desed_task.inference.scorers.interface import Scorer
from desed_task.inference.scorers.joint import JointScores
from desed_task.inference.scorers.opening import check_different, open_scorer
from desed_task.inference.tuned_values import (
    PostProcessing,
    TunedValues,
    for_labels,
    post_processing,
)
from desed_task.mean_teacher import ROLES
from desed_task.postprocess import Threshold
from desed_task.postprocess.calibration import confidence_in_words
from desed_task.postprocess.decoders import MEDIAN
from desed_task.postprocess.event_rules import NO_RULES, EventRules
from desed_task.postprocess.ruled_events import ClassRules

# BEATs' patches last 0.16 s: two of them are 5 frames, so with multiples of 0.32 s all windows but
# a recording's last have frames and patches on common grids. Scores of a mini network jump by 0.13
# where adjacent windows meet, by 0.009 with this hop, and by 0.006 between any two frames.
DEFAULT_HOP_S: Final = 5.12


class SoundEventDetector:
    """Networks with their front ends and post-processing, for recordings of any length.

    Args:
        detector: a loaded checkpoint (`desed_task.checkpoints.spec.load_detector`), a scorer
            (`desed_task.inference.scorers`), or several scorers, which are averaged.
        encoder: the encoder of a checkpoint; a network that takes no embeddings needs none.
        role: "student" or "teacher" of a checkpoint; None for the network that `tuned` is for, or
            the student, by which validation selects checkpoints.
        device: where to compute.
        hop_s: seconds from one window to the next, rounded to whole frames.
        batch_size: windows per batch (on the CPU per thread); None for 32 on a GPU, else 4.
        tuned: decoder, thresholds and calibration that were tuned for the checkpoint.
        decoder: another kind of decoder ("median", "boxes" or "threshold_boxes"), or settings that
            replace those of the checkpoint or of `tuned`.
        calibrated: whether confidences are calibrated; None for whether `tuned` can.
        classes: classes to detect (`scorers.class_columns.wanted_classes`): names, or a corpus that
            AudioSet's classes are mapped to ("desed", "urban_sed", "tut2017"), each of whose
            classes has the highest score of those that it is made of. None for all.
        beats: former name of `encoder`.

    Attributes:
        labels: the classes.
        all_classes: those that the scorers have, whatever `classes` is.
        scorers: what its scores come from.
        windows: where the windows of the scorer with the shortest frames lie.

    Raises:
        InputError: for an unknown role, a hop out of range, an encoder that does not fit, unknown
            classes, scorers that cannot be averaged, and post-processing that cannot be meant
            (`desed_task.inference.tuned_values`).
    """

    def __init__(
        self,
        detector: Detector | Scorer | Sequence[Scorer],
        *,
        encoder: EmbeddingModel | None = None,
        role: str | None = None,
        device: torch.device | str = "cpu",
        hop_s: float = DEFAULT_HOP_S,
        batch_size: int | None = None,
        tuned: TunedValues | None = None,
        decoder: str | Mapping[str, Any] | None = None,
        calibrated: bool | None = None,
        classes: str | Sequence[str] | None = None,
        beats: EmbeddingModel | None = None,
    ) -> None:
        if isinstance(detector, Detector):
            role = role or (tuned.network if tuned else "") or ROLES[0]
            encoder, on = beats if encoder is None else encoder, torch.device(device)
            detector = CrnnScorer(detector, encoder=encoder, role=role, device=on)
        given = [detector] if isinstance(detector, Scorer) else list(detector)
        if not given:
            raise InputError("no detector to get scores from; give at least one")
        self.all_classes = tuple(dict.fromkeys(c for scorer in given for c in scorer.classes))
        wanted = None if classes is None else wanted_classes(classes, self.all_classes)
        self._joint = JointScores(given, hop_s=hop_s, batch_size=batch_size, wanted=wanted)
        self.scorers, self.labels = self._joint.scorers, self._joint.labels
        self.device, self.windows = self._joint.device, self._joint.windows
        self.batch_size = self._joint.batch_size
        self.post_processing = self._post_processing(tuned, decoder, calibrated)
        self.decode = self.post_processing.decoder(self.labels)

    @classmethod
    def from_checkpoint(
        cls,
        path: PathLike | Sequence[PathLike],
        *,
        encoder: GivenEncoder = None,
        role: str | None = None,
        device: torch.device | str = "cpu",
        hop_s: float = DEFAULT_HOP_S,
        batch_size: int | None = None,
        tuned: TunedValues | None = None,
        decoder: str | Mapping[str, Any] | None = None,
        calibrated: bool | None = None,
        classes: str | Sequence[str] | None = None,
        beats: GivenEncoder = None,
    ) -> SoundEventDetector:
        """Load the detector of a checkpoint; no code of the file is run.

        Args:
            path: the checkpoint, ours or a published one; a run folder, which stands for its best
                one; or the file of a detector of AudioSet's 447 classes (docs/predict.md). Several
                of them are averaged.
            encoder: file of the encoder's weights, several where the network takes embeddings of
                several, or the encoder; None for the files that the checkpoint names
                (`desed_task.inference.encoder_files`). Ignored if the network takes no embeddings.
            role: of checkpoints that have a student and a teacher.
            device, hop_s, batch_size, decoder, calibrated, classes: see the class.
            tuned: values that were tuned for this checkpoint, by its SHA-256.
            beats: former name of `encoder`.

        Raises:
            InputError: for files that cannot be used or are not found, one file given twice, and
                `tuned` with several files or `encoder` with several of this recipe; see also the
                class.
        """
        given = [path] if isinstance(path, str | os.PathLike) else list(path)
        places = [find_checkpoint(one) for one in given]
        encoder = beats if encoder is None else encoder
        if tuned is not None:
            _refuse_several("tuned values", len(places))
        if encoder is not None and not isinstance(encoder, Mapping):
            _refuse_several("an encoder", sum(not holds_event_head(place) for place in places))
        check_different([place for place in places if place.is_file()])
        scorers: list[Scorer] = []
        for place in places:
            found = open_scorer(place, encoder=encoder, role=role, device=device, tuned=tuned)
            scorers.append(found)
        if role is not None and not any(scorer.role for scorer in scorers):
            raise InputError(
                f"role {role!r}: {scorers[0].name} has one network, neither student nor teacher; "
                "leave it out"
            )
        return cls(
            scorers,
            hop_s=hop_s,
            batch_size=batch_size,
            tuned=tuned,
            decoder=decoder,
            calibrated=calibrated,
            classes=classes,
        )

    @classmethod
    def from_pretrained(
        cls, name: str, *, folder: PathLike = WEIGHTS_FOLDER, **settings: Any
    ) -> SoundEventDetector:
        """Open a released detector, which needs no training.

        Args:
            name: "atst_frame_strong", "beats_strong", "fpasst_strong", "asit_strong" or
                "m2d_strong"; or the encoder alone.
            folder: where its file is.
            settings: see `from_checkpoint`.

        Raises:
            InputError: an unknown name (the message lists all), or one without a head for events;
                the file is not there (the message has the command that gets it).
        """
        return cls.from_checkpoint(released_file(name, Path(folder)), **settings)

    def _post_processing(
        self,
        tuned: TunedValues | None,
        decoder: str | Mapping[str, Any] | None,
        calibrated: bool | None,
    ) -> PostProcessing:
        first = self.scorers[0]
        if tuned is None:
            if isinstance(decoder, Mapping):
                # Values of classes that were not chosen are not wrong.
                dropped = {*self.all_classes} - {*self.labels}
                named = {label for v in decoder.values() if isinstance(v, Mapping) for label in v}
                if dropped & named:
                    decoder = for_labels(decoder, [*self.labels, *sorted(named - dropped)])
            return post_processing(self._joint, first.role, decoder=decoder, calibrated=calibrated)
        if len(self.scorers) > 1 or not set(self.labels) <= set(first.classes):
            raise InputError(f"{tuned.origin}: tuned for the classes of one checkpoint")
        found = post_processing(
            first, first.role, tuned=tuned, decoder=decoder, calibrated=calibrated
        )
        return found.among(first.classes, self.labels)

    # ---- what it is made of

    @property
    def sample_rate(self) -> int:
        """Of the audio that it takes, Hz."""
        return self.windows.grid.sample_rate

    @property
    def mel_settings(self) -> dict[str, Any]:
        """Arguments of `desed_task.features.LogMel` for pictures of recordings."""
        return next((one.mel_settings for one in self.scorers if one.mel_settings), {})

    @property
    def default_median_filter(self) -> tuple[int, ...]:
        """(class,) lengths in frames that nothing has changed."""
        return self._joint.median_filter

    @property
    def notes(self) -> list[str]:
        """What is not evident of its classes, one line each."""
        return self._joint.notes

    @property
    def spec(self) -> DetectorSpec:
        """The specification of the checkpoint; only a detector of one checkpoint has one."""
        return self._crnn.spec

    @property
    def network(self) -> nn.Module:
        """The network of the checkpoint; only a detector of one checkpoint has one."""
        return self._crnn.network

    @property
    def front_end(self) -> FrontEnd:
        """The front end of the checkpoint; only a detector of one checkpoint has one."""
        return self._crnn.front_end

    @property
    def encoder(self) -> EmbeddingModel | None:
        """The encoder of the only checkpoint; None if its network takes no embeddings."""
        return self._crnn.encoder

    @property
    def _crnn(self) -> CrnnScorer:
        first = self.scorers[0]
        if len(self.scorers) > 1 or not isinstance(first, CrnnScorer):
            names = ", ".join(scorer.name for scorer in self.scorers)
            raise InputError(f"{names}: not the detector of one checkpoint of this recipe")
        return first

    # ---- what it finds

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
        blocks = stream_array(waveform, sample_rate, self.sample_rate)
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
        joined = np.concatenate(rows)
        rows.clear()  # of an hour with 447 classes 0.16 GB
        return self._found(joined, sum(lengths), ruled)

    def score_blocks(self, blocks: Iterable[Waveform]) -> Iterator[ScoreRows]:
        """The networks' scores (frame, class), as soon as they are final; see `detect_blocks`."""
        yield from self._joint.of_blocks(blocks)

    def _found(self, unprocessed: ScoreRows, n_samples: int, rules: ClassRules) -> DetectionResult:
        if not np.isfinite(unprocessed).all():
            raise InputError(
                "scores are not finite: the network has diverged; use another checkpoint"
            )
        duration_s = n_samples / self.sample_rate
        grid = replace(self.windows.grid, n_frames=len(unprocessed), clip_s=duration_s)
        raw = FrameScores(unprocessed, grid.boundaries_s)
        decoded = self.decode(one_clip(raw, self.labels))
        return result_of(raw, decoded, duration_s, rules, self.post_processing.calibration)


def _refuse_several(what: str, n_given: int) -> None:
    if n_given > 1:
        raise InputError(f"{what} for one checkpoint, but {n_given} are given")


def _measured(blocks: Iterable[Waveform], lengths: list[int]) -> Iterator[Waveform]:
    """Yield the blocks and append their lengths to `lengths`."""
    for block in blocks:
        lengths.append(len(block))
        yield block
