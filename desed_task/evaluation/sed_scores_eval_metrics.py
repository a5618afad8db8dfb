"""The metrics of the package sed_scores_eval itself, with which those of the arrays are compared.

No other module imports the package, which a test needs only to be verified.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

with warnings.catch_warnings():
    # dcase_util, imported by sed_scores_eval, warns of what our pin of setuptools takes care of.
    warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
    import sed_scores_eval
from sed_scores_eval.base_modules.precision_recall import (
    average_precision_from_intermediate_statistics,
    best_fscore_from_intermediate_statistics,
)
from sed_scores_eval.base_modules.roc import auroc_from_intermediate_statistics

from desed_task.dataio.annotations import EventTable
from desed_task.evaluation.boxes import Boxes, Decoded
from desed_task.evaluation.psds import Psds, PsdsSpec, Roc
from desed_task.evaluation.scores import Floats, FrameScores, as_detections
from desed_task.evaluation.segments import SEGMENT_S, SegmentScores
from desed_task.labels import Vocabulary

ScoreFrames = dict[str, pd.DataFrame]
TruthEvents = dict[str, list[tuple[float, float, str]]]
Value = tuple[float, dict[str, float]]


def as_frames(scores: Decoded) -> ScoreFrames:
    """The data frames that the package takes, one per clip; of boxes with their borders as times.

    Between boxes scores are minus infinity, so that no threshold joins boxes.
    """
    columns = ["onset", "offset", *scores.vocabulary]
    if isinstance(scores, Boxes):
        own = ((clip_id, scores.of(clip_id, outside=-np.inf)) for clip_id in scores.clip_ids)
        return {
            clip_id: pd.DataFrame(
                _with_times(frames._replace(values=frames.values[None]))[0], columns=columns
            )
            for clip_id, frames in own
        }
    stacked = (values for _, block in scores.blocks for values in _with_times(block))
    return {
        clip_id: pd.DataFrame(values, columns=columns)
        for clip_id, values in zip(scores.clip_ids, stacked, strict=True)
    }


def _with_times(block: FrameScores) -> npt.NDArray[Any]:
    """(clip, frame, 2 + class): onset, offset and scores."""
    times = np.stack([block.boundaries_s[:-1], block.boundaries_s[1:]], axis=1)
    whole = np.broadcast_to(times, (len(block.values), *times.shape))
    return np.concatenate([whole, block.values.astype(np.float64)], axis=-1)


def segment_frames(
    segments: Mapping[str, Floats], durations: Mapping[str, float], labels: Sequence[str]
) -> ScoreFrames:
    """The data frames of recordings, one row per segment; the last may be shorter."""
    frames = {}
    for name, values in segments.items():
        edges = np.minimum(np.arange(len(values) + 1) * SEGMENT_S, durations[name])
        columns = np.column_stack([edges[:-1], edges[1:], values])
        frames[name] = pd.DataFrame(columns, columns=["onset", "offset", *labels])
    return frames


def truth_events(table: EventTable, vocabulary: Vocabulary) -> TruthEvents:
    """Clip -> (onset, offset, label) of events in `vocabulary`, as the package takes them."""
    found: TruthEvents = {clip_id: [] for clip_id in table.clip_ids}
    events = as_detections(table, vocabulary)
    rows = zip(events.clip_index, events.onset_s, events.offset_s, events.label_index, strict=True)
    for clip, onset_s, offset_s, label in rows:
        event = (float(onset_s), float(offset_s), vocabulary[label])
        found[table.clip_ids[clip]].append(event)
    return found


def psds(
    frames: ScoreFrames, truth: TruthEvents, durations: Mapping[str, float], spec: PsdsSpec
) -> Psds:
    """Exact PSDS over all thresholds.

    Args:
        frames: clip -> data frame of scores, of the clips that have events.
        truth: clip -> events; every class of the frames occurs.
        durations: clip -> seconds, of the same clips.
        spec: parameters of the PSDS.
    """
    spec = spec.of_classes(len(next(iter(frames.values())).columns) - 2)
    value, per_class, (tpr, efpr), curves = sed_scores_eval.intersection_based.psds(
        scores=frames,
        ground_truth=truth,
        audio_durations={clip_id: durations[clip_id] for clip_id in frames},
        dtc_threshold=spec.dtc,
        gtc_threshold=spec.gtc,
        cttc_threshold=spec.cttc,
        alpha_ct=spec.alpha_ct,
        alpha_st=spec.alpha_st,
        unit_of_time="hour",
        max_efpr=spec.max_efpr,
        num_jobs=1,
    )
    class_rocs = {name: Roc(curve[1], curve[0]) for name, curve in curves.items()}
    return Psds(
        float(value),
        {name: float(score) for name, score in per_class.items()},
        Roc(efpr, tpr),
        class_rocs,
    )


def union_psds(
    members: Sequence[ScoreFrames],
    truth: TruthEvents,
    durations: Mapping[str, float],
    spec: PsdsSpec,
) -> Value:
    """piPSDS and its value of each class; `members` are the frames of each decoder.

    The other arguments are those of `psds`.
    """
    first = members[0]
    spec = spec.of_classes(len(next(iter(first.values())).columns) - 2)
    # The package hands its scores to functions, which here know their own.
    functions = [lambda scores, member=member, **_: member for member in members]
    value, per_class, *_ = sed_scores_eval.intersection_based.postprocessing_independent_psds(
        scores=first,
        ground_truth=truth,
        audio_durations={clip_id: durations[clip_id] for clip_id in first},
        postprocessing_functions=functions,
        dtc_threshold=spec.dtc,
        gtc_threshold=spec.gtc,
        cttc_threshold=spec.cttc,
        alpha_ct=spec.alpha_ct,
        alpha_st=spec.alpha_st,
        unit_of_time="hour",
        max_efpr=spec.max_efpr,
        num_jobs=1,
    )
    return float(value), {name: float(score) for name, score in per_class.items()}


def intersection_curve(
    frames: ScoreFrames, truth: TruthEvents, *, dtc: float, gtc: float
) -> tuple[Value, Value]:
    """Average precision and best F1, each with its values of classes; arguments as of `psds`."""
    statistics, _ = sed_scores_eval.intersection_based.accumulated_intermediate_statistics(
        frames, truth, dtc_threshold=dtc, gtc_threshold=gtc, num_jobs=1
    )
    return _precision_and_f1(statistics)


def collar_curve(
    frames: ScoreFrames,
    truth: TruthEvents,
    *,
    onset_collar_s: float,
    offset_collar_s: float,
    offset_collar_rate: float,
) -> tuple[Value, Value]:
    """Average precision and best F1, each with its values of classes; arguments as of `psds`."""
    statistics, _ = sed_scores_eval.collar_based.accumulated_intermediate_statistics(
        frames,
        truth,
        onset_collar=onset_collar_s,
        offset_collar=offset_collar_s,
        offset_collar_rate=offset_collar_rate,
        num_jobs=1,
    )
    return _precision_and_f1(statistics)


def _precision_and_f1(statistics: Any) -> tuple[Value, Value]:
    precision, _ = average_precision_from_intermediate_statistics(statistics)
    f1, *_ = best_fscore_from_intermediate_statistics(statistics)
    return _macro_and_classes(precision), _macro_and_classes(f1)


def segment_precision(
    frames: ScoreFrames, truth: TruthEvents, durations: Mapping[str, float]
) -> Value:
    """Average precision of segments and its values of classes; see `package_segment_scores`."""
    precision, _ = sed_scores_eval.segment_based.average_precision(
        frames,
        truth,
        {name: durations[name] for name in frames},
        segment_length=SEGMENT_S,
        num_jobs=1,
    )
    return _macro_and_classes(precision)


def intersection_f1(
    frames: ScoreFrames, truth: TruthEvents, *, threshold: float, dtc: float, gtc: float
) -> Value:
    """Macro and class-wise intersection-based F-score at a threshold; arguments as of `psds`."""
    score, *_ = sed_scores_eval.intersection_based.fscore(
        _decided(frames, threshold),
        truth,
        threshold=threshold,
        dtc_threshold=dtc,
        gtc_threshold=gtc,
        num_jobs=1,
    )
    return _macro_and_classes(score)


def collar_f1(
    frames: ScoreFrames,
    truth: TruthEvents,
    *,
    threshold: float,
    onset_collar_s: float,
    offset_collar_s: float,
    offset_collar_rate: float,
) -> Value:
    """Macro and class-wise collar-based F-score at a threshold; arguments as of `psds`."""
    score, *_ = sed_scores_eval.collar_based.fscore(
        _decided(frames, threshold),
        truth,
        threshold=threshold,
        onset_collar=onset_collar_s,
        offset_collar=offset_collar_s,
        offset_collar_rate=offset_collar_rate,
        num_jobs=1,
    )
    return _macro_and_classes(score)


def _decided(frames: ScoreFrames, threshold: float) -> ScoreFrames:
    """Scores that are 1 above the threshold and 0 below.

    The package computes the events at every distinct score before it applies the threshold; with
    two scores it is faster, and the events at the threshold are the same.
    """
    decided = {}
    for clip_id, frame in frames.items():
        values = frame.to_numpy(copy=True)
        values[:, 2:] = values[:, 2:] > threshold
        decided[clip_id] = pd.DataFrame(values, columns=frame.columns)
    return decided


def _macro_and_classes(score: dict[str, float]) -> Value:
    """Split the package's dictionary, which contains averages beside the classes."""
    averages = ("macro_average", "micro_average", "mean")
    classes = {name: float(value) for name, value in score.items() if name not in averages}
    return float(np.mean(list(classes.values()))), classes


def package_segment_scores(
    frames: ScoreFrames, truth: TruthEvents, durations: Mapping[str, float], *, max_fpr: float
) -> SegmentScores:
    """F1 at each class's best threshold, AUC and partial AUC over segments.

    Args:
        frames: recording or clip -> data frame of scores, of frames of any length: the maximum in
            each segment counts.
        truth: recording or clip -> events; every class of the frames occurs.
        durations: recording or clip -> seconds.
        max_fpr: false positive rate up to which the partial AUC is taken.
    """
    lengths = {name: durations[name] for name in frames}
    statistics, _ = sed_scores_eval.segment_based.accumulated_intermediate_statistics(
        frames, truth, lengths, segment_length=SEGMENT_S, num_jobs=1
    )
    f1, _, _, threshold, _ = best_fscore_from_intermediate_statistics(statistics)
    labels = tuple(statistics)
    f1_of, threshold_of = ({label: float(of[label]) for label in labels} for of in (f1, threshold))
    auc_of = {label: _area(statistics[label], None) for label in labels}
    partial_of = {label: _area(statistics[label], max_fpr) for label in labels}
    return SegmentScores(
        _mean(f1_of),
        _mean(auc_of),
        _mean(partial_of),
        f1_per_class=f1_of,
        auc_per_class=auc_of,
        partial_auc_per_class=partial_of,
        threshold_per_class=threshold_of,
    )


def _mean(per_class: Mapping[str, float]) -> float:
    values = [value for value in per_class.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def _area(statistics: tuple[Floats, dict[str, Any]], max_fpr: float | None) -> float:
    """Area under one class's ROC curve; NaN without a segment in which the class is absent."""
    counts = statistics[1]
    if not (counts["fps"] + counts["tns"]).any():
        return float("nan")
    area, _ = auroc_from_intermediate_statistics(statistics, max_fpr=max_fpr)
    return float(area)
