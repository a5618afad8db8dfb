"""Collar-based counts at every threshold, of scores or boxes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from desed_task.evaluation.exact_psds import (
    FALSE,
    TRUE,
    Changes,
    DetectedRuns,
    while_detected,
)
from desed_task.evaluation.fscores import SED_SCORES_EVAL_DECIMALS, near_pairs, pairs_matched
from desed_task.evaluation.scores import Ints


class Collars(NamedTuple):
    """How far borders may be off; see `collar_fscore`."""

    onset_collar_s: float
    offset_collar_s: float
    offset_collar_rate: float


def collar_changes(found: DetectedRuns, collars: Collars) -> Changes:
    """The changes of one class: true positives are the most pairs that can be matched one-to-one.

    Times are compared to the microsecond, as in sed_scores_eval.
    """
    one, other = near_pairs(
        found.events, found.truth, decimals=SED_SCORES_EVAL_DECIMALS, **collars._asdict()
    )
    runs = found.runs
    clips, levels, matched = _matched_at_levels(
        runs.signal[one], runs.low[one], runs.high[one], one, other
    )
    # Levels rise within a clip; above its highest one nothing is matched.
    change = matched - np.append(np.where(clips[1:] == clips[:-1], matched[1:], 0), 0)[: len(clips)]
    kept = np.flatnonzero((change != 0) & (levels > -np.inf))
    score, clip, amount = levels[kept], clips[kept], change[kept]
    parts = [
        (score, clip, np.full(len(kept), TRUE), amount),
        (score, clip, np.full(len(kept), FALSE), -amount),
        *while_detected(found.rises.low, found.rises.high, found.rises.signal, FALSE, 1),
    ]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    # A whole signal stays detected at every lower threshold.
    there = columns[0] > -np.inf
    return Changes(*(column[there] for column in columns))


def _matched_at_levels(
    clip: Ints, low: np.ndarray, high: np.ndarray, one: Ints, other: Ints
) -> tuple[Ints, np.ndarray, Ints]:
    """Clip, score and matched pairs just below it, for all scores at which a clip's pairs change.

    Args:
        clip: (pair,) its clip.
        low: (pair,) it is there at thresholds from here
        high: (pair,) to below here.
        one: (pair,) a detected run.
        other: (pair,) a true event.
    """
    scores, number = np.unique(np.concatenate([low, high]), return_inverse=True)
    cells, place = np.unique(np.tile(clip, 2) * len(scores) + number, return_inverse=True)
    clips, score = np.divmod(cells, max(len(scores), 1))
    # A pair is there just below a score if low < score <= high.
    first, last = place[: len(low)] + 1, place[len(low) :]
    pair = np.repeat(np.arange(len(low)), last - first + 1)
    within = np.arange(len(pair)) - np.repeat(
        np.cumsum(last - first + 1) - (last - first + 1), last - first + 1
    )
    cell = first[pair] + within
    return clips, scores[score], _most_matched(cell, one[pair], other[pair], len(cells))


def _most_matched(cell: Ints, one: Ints, other: Ints, n_cells: int) -> Ints:
    """(cell,) the most pairs of each that share neither side."""
    count = np.bincount(cell, minlength=n_cells)
    sides = []
    for side in (one, other):
        nodes, node = np.unique(cell * (side.max(initial=0) + 1) + side, return_inverse=True)
        sides.append((len(nodes), node))
    if all(size == len(cell) for size, _ in sides):
        return count
    (n_one, one_node), (n_other, other_node) = sides
    cell_of = np.zeros(n_other, dtype=np.int64)
    cell_of[other_node] = cell
    matched = pairs_matched(one_node, other_node, (n_one, n_other)) >= 0
    return np.bincount(cell_of[matched], minlength=n_cells)
