"""Metrics of sed_scores_eval as functions that can be pickled for worker processes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from desed_task.evaluation import fscores
from desed_task.evaluation.psds import Psds, PsdsSpec, psds_from_scores
from desed_task.evaluation.scores import ScoreFrames, Scores, TruthEvents, as_sed_scores_eval


def psds(
    scores: Scores, truth: TruthEvents, durations: Mapping[str, float], spec: PsdsSpec
) -> Psds:
    """Exact PSDS, see `psds_from_scores`.

    Args:
        scores: of the clips that have events.
        truth: clip -> events; every class of the scores occurs.
        durations: clip -> seconds, of the same clips.
        spec: parameters of the PSDS.
    """
    return psds_from_scores(as_sed_scores_eval(scores), truth, durations, spec)


def intersection_f1(
    scores: Scores, truth: TruthEvents, *, threshold: float, dtc: float, gtc: float
) -> tuple[float, dict[str, float]]:
    """Macro and class-wise intersection-based F-score of the same scores and truth."""
    return fscores.intersection_fscore_from_scores(
        _decided(scores, threshold), truth, threshold=threshold, dtc=dtc, gtc=gtc
    )


def collar_f1(
    scores: Scores, truth: TruthEvents, *, threshold: float, **collars: float
) -> tuple[float, dict[str, float]]:
    """Macro and class-wise collar-based F-score; `collars` as of `collar_fscore`."""
    return fscores.collar_fscore_from_scores(
        _decided(scores, threshold), truth, threshold=threshold, **collars
    )


def _decided(scores: Scores, threshold: float) -> ScoreFrames:
    """Scores that are 1 above the threshold and 0 below.

    The package computes the events at every distinct score before it applies the threshold; with
    two scores it is faster, and the events at the threshold are the same.
    """
    return as_sed_scores_eval(scores.map(lambda values: (values > threshold).astype(np.float32)))
