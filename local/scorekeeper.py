"""Keeps what both networks say of each clip of a pass, and turns it into named metrics."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torchmetrics.functional.classification import multilabel_f1_score

from desed_task.dataio.batch import SedBatch, Source
from desed_task.evaluation.aside import Aside, usable_processors
from desed_task.evaluation.scores import Scores
from desed_task.nnet.CRNN import Detection
from desed_task.postprocess import ClassMedianFilter
from local import scoring
from local.classes_dict import VOCABULARY
from local.collector import RowCollector, ScoreCollector
from local.config import RecipeConfig
from local.datamodule import SedDataModule, grid_of
from local.objective import obj_metric

ROLES = ("student", "teacher")
# From here on other processes save more time than it takes to start them.
MANY_CLIPS = 400


class ScoreKeeper:
    """Scores of one pass over a validation, test or evaluation set, for student and teacher.

    Args:
        config: median filter lengths, grid and the kinds of val/obj_metric.
    """

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config
        self.grid = grid_of(config)
        self.smooth = ClassMedianFilter(config.net.median_filter)
        self.reports: dict[str, list[scoring.Report]] = {}
        self.clear()

    def clear(self) -> None:
        """Forget every score and report."""
        self._strong: dict[tuple[str, Source], ScoreCollector] = defaultdict(
            lambda: ScoreCollector(VOCABULARY, self.grid)
        )
        # Rows of (scores, target).
        self._weak: dict[str, RowCollector] = defaultdict(
            lambda: RowCollector((2, len(VOCABULARY)))
        )
        self._smoothed: dict[tuple[str, Source], Scores] = {}
        self.reports = {}

    def add(self, role: str, batch: SedBatch, found: Detection) -> None:
        """Keep what the network `role` found in a batch."""
        strong, weak, target = found.strong.cpu(), found.weak.cpu(), batch.target.cpu()
        for source in batch.source.unique().tolist():
            rows = (batch.source == source).nonzero().squeeze(1).tolist()
            clip_ids = [batch.clip_id[row] for row in rows]
            if source == Source.WEAK:
                present = (target[rows] > 0).any(-1).float()
                self._weak[role].add(clip_ids, torch.stack([weak[rows].float(), present], dim=1))
            else:
                self._strong[role, Source(source)].add(clip_ids, strong[rows])

    def scores(self, role: str, source: Source) -> Scores:
        """Scores of all clips of a corpus as the network gave them."""
        return self._strong[role, source].scores()

    def smoothed(self, role: str, source: Source) -> Scores:
        """Scores of all clips of a corpus after the class-wise median filter."""
        if (role, source) not in self._smoothed:
            self._smoothed[role, source] = self.scores(role, source).map(self.smooth)
        return self._smoothed[role, source]

    def validation_metrics(self, data: SedDataModule) -> dict[str, float]:
        """Metric name -> value for both networks, and val/obj_metric."""
        metrics: dict[str, float] = {}
        training = self.config.training
        for role in ROLES:
            self.reports[role] = self._score("val", role, data)
            metrics[f"val/{role}/weak_f1_macro_thres05/torchmetrics"] = self._weak_f1(role)
            for report in self.reports[role]:
                metrics.update(report.metrics)
        metrics["val/obj_metric"] = obj_metric(
            metrics,
            synth_type=training.obj_metric_synth_type,
            maestro_type=training.obj_metric_maestro_type,
        )
        return metrics

    def test_metrics(self, data: SedDataModule) -> dict[str, float]:
        """Metric name -> value for both networks, which are scored side by side."""
        n_clips = sum(len(truth.events.clip_ids) for truth in data.truths("test"))
        n_processes = usable_processors() if n_clips >= MANY_CLIPS else 0
        # Threads that wait for other processes; computing here, they would wait for each other.
        n_threads = len(ROLES) if n_processes > 1 else 1
        with Aside(n_processes) as aside, ThreadPoolExecutor(n_threads) as threads:
            score = partial(self._score, "test", data=data, aside=aside)
            self.reports.update(zip(ROLES, threads.map(score, ROLES), strict=True))
        return {
            name: value
            for reports in self.reports.values()
            for report in reports
            for name, value in report.metrics.items()
        }

    def _score(
        self, stage: scoring.Stage, role: str, data: SedDataModule, aside: Aside | None = None
    ) -> list[scoring.Report]:
        desed, maestro = data.truths(stage)
        of_desed = partial(scoring.score_desed, left_out_s=desed.left_out_s, aside=aside)
        return [
            one(
                self.smoothed(role, truth.source),
                truth.events,
                truth.durations,
                stage=stage,
                role=role,
                n_thresholds=self.config.training.n_test_thresholds,
            )
            for one, truth in ((of_desed, desed), (scoring.score_maestro, maestro))
        ]

    def _weak_f1(self, role: str) -> float:
        scores, target = torch.from_numpy(self._weak[role].collect()[1]).unbind(1)
        value = multilabel_f1_score(
            scores, target.int(), num_labels=len(VOCABULARY), average="macro", threshold=0.5
        )
        return float(value)
