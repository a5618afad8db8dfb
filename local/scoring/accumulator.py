"""Accumulate student and teacher scores over an epoch and compute the metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import multilabel_f1_score

from desed_task.audio.windows import Span, WindowGrid
from desed_task.batch import SedBatch, Source
from desed_task.distributed.collectives import gathered_by_first, process_rank, told_by_first
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.scores import FrameScores, Scores
from desed_task.inference.overlap_add import OverlapAdd
from desed_task.labels import FrameGrid, Vocabulary
from desed_task.mean_teacher import ROLES
from desed_task.nnet.CRNN import Detection
from desed_task.postprocess import ClassMedianFilter
from desed_task.postprocess.decoders import MEDIAN
from local.classes_dict import VOCABULARY
from local.config import RecipeConfig
from local.data.truth import Stage, Truth
from local.scoring.metrics import (
    desed_test_metrics,
    desed_validation_metrics,
    maestro_metrics,
)
from local.scoring.objective import obj_metric
from local.scoring.own.criteria import is_of_group
from local.scoring.own.groups import read_groups
from local.scoring.own.tuned import TunedThresholds
from local.scoring.report import CorpusMetrics

# Corpora whose metrics are those of segments.
SEGMENT_SOURCES = (Source.MAESTRO_REAL,)

RowArray = NDArray[np.float32]


class ScoreAccumulator:
    """Student and teacher scores of one epoch over a validation, test or evaluation set.

    If several processes have scored it, the first one gathers the scores and computes the metrics.

    Args:
        config: the configuration; gives decoder, label grid and parts of val/obj_metric.
    """

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config
        self.grid = config.grid
        self.smooth = ClassMedianFilter(config.net.median_filter)
        self.decode = config.score_decoder()
        # Thresholds that were tuned for the tested checkpoint.
        self.tuned: TunedThresholds | None = None
        self.reports: dict[str, list[CorpusMetrics]] = {}
        self.clear()

    def clear(self) -> None:
        """Delete all scores and reports."""
        self._strong: dict[tuple[str, Source], ScoreCollector] = defaultdict(
            lambda: ScoreCollector(VOCABULARY, self.grid, self.config.windows)
        )
        # Rows of (scores, target).
        self._weak: dict[str, RowCollector] = defaultdict(
            lambda: RowCollector((2, len(VOCABULARY)), self.config.windows)
        )
        self._smoothed: dict[tuple[str, Source], Scores] = {}
        self._decoded: dict[tuple[str, Source], Decoded] = {}
        self.reports = {}

    def add(self, role: str, batch: SedBatch, found: Detection) -> None:
        """Add the scores of a batch by the network `role`."""
        strong, weak, target = found.strong.cpu(), found.weak.cpu(), batch.target.cpu()
        spans = batch.span or (None,) * len(batch.clip_id)
        for source in batch.source.unique().tolist():
            rows = (batch.source == source).nonzero().squeeze(1).tolist()
            of_rows = [batch.clip_id[row] for row in rows], [spans[row] for row in rows]
            if source == Source.WEAK:
                present = (target[rows] > 0).any(-1).float()
                values = torch.stack([weak[rows].float(), present], dim=1)
                self._weak[role].add(of_rows[0], values, of_rows[1])
            else:
                self._strong[role, Source(source)].add(of_rows[0], strong[rows], of_rows[1])

    def gather(self, sources: Sequence[Source], *, weak: bool = False) -> None:
        """Gather the scores of all processes in the first one; every process must call it.

        Args:
            sources: corpora with frame scores.
            weak: whether there are clip scores, too.
        """
        for role in ROLES:
            for source in sources:
                self._strong[role, source].collect()
            if weak:
                self._weak[role].collect()

    def scores(self, role: str, source: Source) -> Scores:
        """Unfiltered scores of all clips of a corpus."""
        return self._strong[role, source].scores()

    def smoothed(self, role: str, source: Source) -> Scores:
        """Scores of all clips of a corpus after the median filters, whatever the decoder.

        Segments, which have means of frames and no borders, are scored from them.
        """
        if (role, source) not in self._smoothed:
            self._smoothed[role, source] = self.scores(role, source).map(self.smooth)
        return self._smoothed[role, source]

    def decoded(self, role: str, source: Source) -> Decoded:
        """What events of a corpus are detected in: filtered scores or boxes."""
        if self.config.decoder.kind == MEDIAN or source in SEGMENT_SOURCES:
            return self.smoothed(role, source)
        if (role, source) not in self._decoded:
            self._decoded[role, source] = self.decode(self.scores(role, source))
        return self._decoded[role, source]

    def validation_metrics(self, truths: tuple[Truth, Truth]) -> dict[str, float]:
        """Metric name -> value for both networks, and val/obj_metric; collective.

        Args:
            truths: truth of the DESED and the MAESTRO part; see `SedDataModule.truths`.
        """
        self.gather([truth.source for truth in truths], weak=True)
        return told_by_first(self._validation_metrics(truths) if process_rank() == 0 else {})

    def _validation_metrics(self, truths: tuple[Truth, Truth]) -> dict[str, float]:
        desed, maestro = truths
        metrics: dict[str, float] = {}
        training = self.config.training
        for role in ROLES:
            decoded = self.decoded(role, desed.source)
            self.reports[role] = [
                desed_validation_metrics(decoded, desed.events, desed.durations, role=role),
                self._maestro(maestro, "val", role),
            ]
            metrics[f"val/{role}/weak_f1_macro_thres05/torchmetrics"] = self._weak_f1(role)
            for report in self.reports[role]:
                metrics.update(report.metrics)
        metrics["val/obj_metric"] = obj_metric(
            metrics,
            synth_type=training.obj_metric_synth_type,
            maestro_type=training.obj_metric_maestro_type,
        )
        return metrics

    def test_metrics(self, truths: tuple[Truth, Truth]) -> dict[str, float]:
        """Metric name -> value for both networks; collective.

        Args:
            truths: see `validation_metrics`.
        """
        self.gather([truth.source for truth in truths])
        return told_by_first(self._test_metrics(truths) if process_rank() == 0 else {})

    def _test_metrics(self, truths: tuple[Truth, Truth]) -> dict[str, float]:
        self.reports = {role: self._test_reports(role, truths) for role in ROLES}
        return {
            name: value
            for reports in self.reports.values()
            for report in reports
            for name, value in report.metrics.items()
            # Names of groups are anybody's, which trackers may refuse; results.json has them.
            if not is_of_group(name)
        }

    def _test_reports(self, role: str, truths: tuple[Truth, Truth]) -> list[CorpusMetrics]:
        desed, maestro = truths
        of_desed = desed_test_metrics(
            self.decoded(role, desed.source),
            desed.events,
            desed.durations,
            role=role,
            n_thresholds=self.config.training.n_test_thresholds,
            left_out_s=desed.left_out_s,
            raw=self.scores(role, desed.source),
            groups=read_groups(self.config, desed.events.clip_ids),
            tuned=self.tuned,
        )
        return [of_desed, self._maestro(maestro, "test", role)]

    def _maestro(self, truth: Truth, stage: Stage, role: str) -> CorpusMetrics:
        smoothed = self.smoothed(role, truth.source)
        return maestro_metrics(smoothed, truth.events, truth.durations, stage=stage, role=role)

    def _weak_f1(self, role: str) -> float:
        collector = self._weak[role]
        # A class is as likely in a clip as in the window of it that it is likeliest in.
        longer = [rows.max(axis=0) for _, rows in collector.recordings().values()]
        rows = np.concatenate([collector.collect()[1], *(row[None] for row in longer)])
        scores, target = torch.from_numpy(rows).unbind(1)
        value = multilabel_f1_score(
            scores, target.int(), num_labels=len(VOCABULARY), average="macro", threshold=0.5
        )
        return float(value)


class _Row(NamedTuple):
    """A whole clip (no span), or a window of it."""

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
        self._names: list[_Row] = []
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
        self._names.extend(_Row(*name) for name in zip(clip_ids, spans, strict=True))
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
            self._whole = tuple(clip_ids), rows[[first[_Row(one, None)] for one in clip_ids]]
            self._recordings = self._by_recording(first, rows)
        return self._whole

    def recordings(self) -> dict[str, Windows]:
        """Clips of all processes that are scored in windows, sorted, with all their windows.

        Collective like `collect`.
        """
        self.collect()
        return self._recordings

    def _by_recording(self, first: dict[_Row, int], rows: RowArray) -> dict[str, Windows]:
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


def _order(name: _Row) -> tuple[str, int]:
    return name.clip_id, -1 if name.span is None else name.span.first


def _gather(names: list[_Row], rows: RowArray) -> tuple[list[_Row], RowArray]:
    """Those of all processes in the first one, nothing in the others."""
    parts = gathered_by_first((names, rows))
    if not parts:
        return [], rows[:0]
    return [name for own, _ in parts for name in own], np.concatenate([own for _, own in parts])
