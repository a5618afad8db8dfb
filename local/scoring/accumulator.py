"""Accumulate student and teacher scores over an epoch and compute the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from desed_task.audio.windows import Span, WindowGrid
from desed_task.batch import SedBatch
from desed_task.distributed.collectives import gathered_by_first, process_rank, told_by_first
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.scores import FrameScores, Scores
from desed_task.inference.overlap_add import OverlapAdd
from desed_task.labels import FrameGrid, Vocabulary
from desed_task.mean_teacher import ROLES
from desed_task.nnet.CRNN import Detection
from desed_task.postprocess import ClassMedianFilter
from desed_task.postprocess.decoders import MEDIAN
from local.config import RecipeConfig
from local.data.truth import TRUE_CONFIDENCE, Stage, Truth, truth_of
from local.scoring.metrics import event_test_metrics, event_validation_metrics
from local.scoring.objective import obj_metric
from local.scoring.own.criteria import is_of_group
from local.scoring.own.groups import read_groups
from local.scoring.own.tuned import TunedThresholds
from local.scoring.report import CorpusMetrics
from local.scoring.segment_metrics import segment_metrics
from local.scoring.tags import ClipScores, tag_metrics
from local.task.corpus import Corpus
from local.task.task import ScoredPart

RowArray = NDArray[np.float32]


class ScoreAccumulator:
    """Student and teacher scores of one epoch over a validation, test or evaluation set.

    Of each corpus, it keeps what the task scores it with: scores of frames for events and segments,
    scores of clips for tags. Of those that are not scored, evaluation sets, it keeps frames.

    If several processes have scored it, the first one gathers the scores and computes the metrics.

    Args:
        config: the configuration; gives task, decoder and label grid.
    """

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config
        self.task = config.detection_task
        self.grid = config.grid
        self.smooth = ClassMedianFilter(config.net.median_filter)
        self.decode = config.score_decoder()
        # Thresholds that were tuned for the tested checkpoint.
        self.tuned: TunedThresholds | None = None
        self.reports: dict[str, list[CorpusMetrics]] = {}
        # By number of a corpus.
        self._kinds = [self.task.kinds(corpus) for corpus in self.task.corpora]
        self.clear()

    def clear(self) -> None:
        """Delete all scores and reports."""
        self._frames: dict[tuple[str, int], ScoreCollector] = {}
        # Rows of (scores, presence).
        self._clips: dict[tuple[str, int], RowCollector] = {}
        self._smoothed: dict[tuple[str, int], Scores] = {}
        self._decoded: dict[tuple[str, int], Decoded] = {}
        self.reports = {}

    def add(self, role: str, batch: SedBatch, found: Detection) -> None:
        """Add the scores of a batch by the network `role`."""
        strong, weak, target = found.strong.cpu(), found.weak.cpu(), batch.target.cpu()
        spans = batch.span or (None,) * len(batch.clip_id)
        for number in batch.source.unique().tolist():
            rows = (batch.source == number).nonzero().squeeze(1).tolist()
            of_rows = [batch.clip_id[row] for row in rows], [spans[row] for row in rows]
            corpus = self.task.of_number(number)
            if self._has_frames(corpus):
                self._frames_of(role, corpus).add(of_rows[0], strong[rows], of_rows[1])
            if self._has_clips(corpus):
                least = 0.0 if corpus.labels == "weak" else TRUE_CONFIDENCE
                present = (target[rows] > least).any(-1).float()
                values = torch.stack([weak[rows].float(), present], dim=1)
                self._clips_of(role, corpus).add(of_rows[0], values, of_rows[1])

    def _has_frames(self, corpus: Corpus) -> bool:
        return self._kinds[corpus.number] != {"tags"}

    def _has_clips(self, corpus: Corpus) -> bool:
        return "tags" in self._kinds[corpus.number]

    def _windows(self, corpus: Corpus) -> WindowGrid:
        """The windows that longer clips of a corpus are scored in."""
        return WindowGrid.with_hop(self.grid, corpus.hop_s or self.config.predict.hop_s)

    def _frames_of(self, role: str, corpus: Corpus) -> ScoreCollector:
        key = role, corpus.number
        if key not in self._frames:
            windows = partial(self._windows, corpus)
            self._frames[key] = ScoreCollector(self.task.vocabulary, self.grid, windows)
        return self._frames[key]

    def _clips_of(self, role: str, corpus: Corpus) -> RowCollector:
        key = role, corpus.number
        if key not in self._clips:
            windows = partial(self._windows, corpus)
            self._clips[key] = RowCollector((2, len(self.task.classes)), windows)
        return self._clips[key]

    def gather(self, corpora: Sequence[Corpus]) -> None:
        """Gather the scores of all processes in the first one; every process must call it."""
        for role in ROLES:
            for corpus in corpora:
                for collector in self.collectors(role, corpus).values():
                    collector.collect()

    def collectors(self, role: str, corpus: Corpus) -> dict[str, RowCollector]:
        """What collects the rows of a corpus: "frames", "clips" or both."""
        found: dict[str, RowCollector] = {}
        if self._has_frames(corpus):
            found["frames"] = self._frames_of(role, corpus)
        if self._has_clips(corpus):
            found["clips"] = self._clips_of(role, corpus)
        return found

    def scores(self, role: str, corpus: Corpus) -> Scores:
        """Unfiltered scores of all clips of a corpus."""
        return self._frames_of(role, corpus).scores()

    def smoothed(self, role: str, corpus: Corpus) -> Scores:
        """Scores of all clips of a corpus after the median filters, whatever the decoder.

        Segments, which have means of frames and no borders, are scored from them.
        """
        key = role, corpus.number
        if key not in self._smoothed:
            self._smoothed[key] = self.scores(role, corpus).map(self.smooth)
        return self._smoothed[key]

    def decoded(self, role: str, corpus: Corpus) -> Decoded:
        """What events of a corpus are detected in: filtered scores or boxes.

        Of a corpus that only segments are scored of, filtered scores.
        """
        kinds, key = self._kinds[corpus.number], (role, corpus.number)
        if self.config.decoder.kind == MEDIAN or (kinds and "events" not in kinds):
            return self.smoothed(role, corpus)
        if key not in self._decoded:
            self._decoded[key] = self.decode(self.scores(role, corpus))
        return self._decoded[key]

    def filtered_beside(self, role: str, corpus: Corpus) -> Scores | None:
        """Filtered scores that segments of a corpus are scored from, if its events are boxes."""
        of_segments = "segments" in self._kinds[corpus.number]
        if not of_segments or isinstance(self.decoded(role, corpus), Scores):
            return None
        return self.smoothed(role, corpus)

    def in_windows(self, corpus: Corpus) -> bool:
        """Whether any clip of a corpus was scored in windows."""
        found = self.collectors(ROLES[0], corpus).values()
        return any(collector.recordings() for collector in found)

    def clip_scores(self, role: str, corpus: Corpus) -> ClipScores:
        """Scores and presence of the classes in each clip of a corpus that tags are scored of."""
        collector = self._clips_of(role, corpus)
        clip_ids, whole = collector.collect()
        recordings = collector.recordings()
        # A class is as likely in a clip as in the window of it that it is likeliest in.
        longer = [rows.max(axis=0) for _, rows in recordings.values()]
        rows = np.concatenate([whole, *(row[None] for row in longer)])
        return ClipScores((*clip_ids, *recordings), rows[:, 0], rows[:, 1])

    def validation_metrics(self, truths: Sequence[Truth]) -> dict[str, float]:
        """Metric name -> value for both networks, and val/obj_metric; collective.

        Args:
            truths: see `SedDataModule.truths`.
        """
        self.gather(self.task.scored_corpora("val"))
        return told_by_first(self._validation_metrics(truths) if process_rank() == 0 else {})

    def _validation_metrics(self, truths: Sequence[Truth]) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for role in ROLES:
            self.reports[role] = self._reports(role, "val", truths)
            for report in self.reports[role]:
                metrics.update(report.metrics)
        metrics["val/obj_metric"] = obj_metric(metrics, self.task)
        return metrics

    def test_metrics(self, truths: Sequence[Truth]) -> dict[str, float]:
        """Metric name -> value for both networks; collective.

        Args:
            truths: see `SedDataModule.truths`.
        """
        self.gather(self.task.scored_corpora("test"))
        return told_by_first(self._test_metrics(truths) if process_rank() == 0 else {})

    def _test_metrics(self, truths: Sequence[Truth]) -> dict[str, float]:
        self.reports = {role: self._reports(role, "test", truths) for role in ROLES}
        return {
            name: value
            for reports in self.reports.values()
            for report in reports
            for name, value in report.metrics.items()
            # Names of groups are anybody's, which trackers may refuse; results.json has them.
            if not is_of_group(name)
        }

    def _reports(self, role: str, stage: Stage, truths: Sequence[Truth]) -> list[CorpusMetrics]:
        return [self._report(role, stage, part, truths) for part in self.task.scored(stage)]

    def _report(
        self, role: str, stage: Stage, part: ScoredPart, truths: Sequence[Truth]
    ) -> CorpusMetrics:
        corpus = part.corpus
        if part.kind == "tags":
            found = self.clip_scores(role, corpus)
            return tag_metrics(found, part, self.task.vocabulary, stage=stage, role=role)
        truth = truth_of(truths, part.kind)
        assert truth is not None, part
        if part.kind == "segments":
            return segment_metrics(self.smoothed(role, corpus), truth, stage=stage, role=role)
        decoded = self.decoded(role, corpus)
        if stage == "val":
            return event_validation_metrics(decoded, truth, role=role)
        return event_test_metrics(
            decoded,
            truth,
            role=role,
            n_thresholds=self.config.training.n_test_thresholds,
            raw=self.scores(role, corpus),
            groups=read_groups(self.config, truth.events.clip_ids),
            tuned=self.tuned,
        )


class CollectedRow(NamedTuple):
    """Name of a row: a whole clip (no span), or a window of it."""

    clip_id: str
    span: Span | None


# A recording's windows, in order, and their rows.
Windows = tuple[list[Span], RowArray]


class RowCollector:
    """Collects one row per clip, or one per window of a clip, of all processes.

    Args:
        row_shape: shape of a row.
        windows: gives the windows that longer clips are scored in; None if there are none.
    """

    def __init__(
        self, row_shape: tuple[int, ...], windows: Callable[[], WindowGrid] | None = None
    ) -> None:
        self.row_shape = row_shape
        self.windows = windows
        self._names: list[CollectedRow] = []
        self._rows: list[RowArray] = []
        self._whole: tuple[tuple[str, ...], RowArray] | None = None
        self._recordings: dict[str, Windows] = {}

    def __len__(self) -> int:
        """Number of rows added in this process."""
        return len(self._names)

    def add(self, clip_ids: Sequence[str], rows: Tensor, spans: Sequence[Span | None] = ()) -> None:
        """Add rows.

        Args:
            clip_ids: the clip of each row.
            rows: (row, *row_shape).
            spans: the window of each row, None for a whole clip; empty if all are.
        """
        spans = spans or [None] * len(clip_ids)
        self._names.extend(CollectedRow(*name) for name in zip(clip_ids, spans, strict=True))
        self._rows.append(rows.detach().float().cpu().numpy())
        self._whole = None

    def collect(self) -> tuple[tuple[str, ...], RowArray]:
        """The distinct whole clips of all processes, sorted, and their rows (clip, *row_shape).

        The first call after `add` is collective: every process must make it, and only the first
        one gets any.
        """
        if self._whole is None:
            names, rows = _gather(self._names, self._stacked())
            # A process may have scored a batch of another one, to have any.
            first = {name: row for row, name in reversed(list(enumerate(names)))}
            clip_ids = sorted(name.clip_id for name in first if name.span is None)
            self._whole = (
                tuple(clip_ids),
                rows[[first[CollectedRow(one, None)] for one in clip_ids]],
            )
            self._recordings = self._by_recording(first, rows)
        return self._whole

    def recordings(self) -> dict[str, Windows]:
        """Clips of all processes that are scored in windows, sorted, with all their windows.

        Collective like `collect`.
        """
        self.collect()
        return self._recordings

    def named_rows(self) -> tuple[list[CollectedRow], RowArray]:
        """All distinct rows with their names: whole clips, then windows; collective like
        `collect`."""
        clip_ids, whole = self.collect()
        longer = self.recordings()
        names = [CollectedRow(clip_id, None) for clip_id in clip_ids]
        for clip_id, (spans, _) in longer.items():
            names += [CollectedRow(clip_id, span) for span in spans]
        return names, np.concatenate([whole, *(rows for _, rows in longer.values())])

    def _by_recording(self, first: dict[CollectedRow, int], rows: RowArray) -> dict[str, Windows]:
        windows = sorted((name for name in first if name.span is not None), key=_order)
        found = {}
        for clip_id, group in groupby(windows, key=lambda name: name.clip_id):
            names = list(group)
            spans = [name.span for name in names if name.span is not None]
            # A run over a few batches may end within a recording, which then has no scores.
            if self.windows and spans == self.windows().spans(spans[0].n_samples):
                found[clip_id] = spans, rows[[first[name] for name in names]]
        return found

    def _stacked(self) -> RowArray:
        return np.concatenate([np.empty((0, *self.row_shape), dtype=np.float32), *self._rows])


class ScoreCollector(RowCollector):
    """Collects the frame scores of clips.

    Args:
        vocabulary: classes of the scores.
        grid: frames of the scores.
        windows: as of `RowCollector`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        grid: FrameGrid,
        windows: Callable[[], WindowGrid] | None = None,
    ) -> None:
        super().__init__((len(vocabulary), grid.n_frames), windows)
        self.vocabulary = vocabulary
        self.grid = grid

    def scores(self) -> Scores:
        """Scores of the clips that all processes have added as (class, frame) rows.

        Those of windows are overlap-added.
        """
        clip_ids, rows = self.collect()
        # Without subsampling, a clip's last frame may begin where the clip ends.
        boundaries_s = np.unique(self.grid.boundaries_s)
        values = np.ascontiguousarray(rows[..., : len(boundaries_s) - 1].transpose(0, 2, 1))
        recordings = self.recordings()
        return Scores(
            (*clip_ids, *recordings),
            values,
            boundaries_s,
            self.vocabulary,
            tuple(self._joined(*of_windows) for of_windows in recordings.values()),
        )

    def _joined(self, spans: list[Span], rows: RowArray) -> FrameScores:
        assert self.windows is not None
        windows = self.windows()
        adder = OverlapAdd(windows, len(self.vocabulary))
        parts = [adder.add(span, row.T) for span, row in zip(spans, rows, strict=True)]
        return FrameScores(np.concatenate(parts), windows.boundaries_s(spans[0].n_samples))


def _order(name: CollectedRow) -> tuple[str, int]:
    return name.clip_id, -1 if name.span is None else name.span.first


def _gather(names: list[CollectedRow], rows: RowArray) -> tuple[list[CollectedRow], RowArray]:
    """Those of all processes in the first one, nothing in the others."""
    parts = gathered_by_first((names, rows))
    if not parts:
        return [], rows[:0]
    return [name for own, _ in parts for name in own], np.concatenate([own for _, own in parts])
