"""Metrics of tags, which say which classes a clip contains."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.evaluation.curves.precision_recall import average_precision, points_of_values
from desed_task.evaluation.scores import Floats, Ints


class TagCounts(NamedTuple):
    """Decisions about the clips of a set: (class,) each.

    Attributes:
        true_positives: clips that contain the class and were found.
        false_positives: clips that do not contain it and were found.
        references: clips that contain it.
    """

    true_positives: Ints
    false_positives: Ints
    references: Ints

    @classmethod
    def at(
        cls, scores: npt.NDArray[np.floating], present: npt.NDArray[np.bool_], threshold: float
    ) -> TagCounts:
        """Counts where scores above a threshold are decisions; see `tag_precision`."""
        found = scores > threshold
        return cls((found & present).sum(0), (found & ~present).sum(0), present.sum(0))

    @property
    def f1(self) -> Floats:
        """(class,) F1; NaN for a class that is neither there nor found."""
        return _f1(self.true_positives, self.false_positives + self.references)

    @property
    def micro_f1(self) -> float:
        """F1 of all decisions together."""
        false_and_true = self.false_positives + self.references
        return float(_f1(self.true_positives.sum(), false_and_true.sum()))


def _f1(true: npt.ArrayLike, others: npt.ArrayLike) -> Floats:
    found: Floats = np.asarray(true) + np.asarray(others, dtype=np.float64)
    result: Floats = np.divide(
        2.0 * np.asarray(true), found, out=np.full_like(found, np.nan), where=found > 0
    )
    return result


def tag_precision(scores: npt.NDArray[np.floating], present: npt.NDArray[np.bool_]) -> Floats:
    """(class,) average precision, as of `average_precision`; NaN for a class without a clip.

    Args:
        scores: (clip, class).
        present: (clip, class) whether the clip contains the class.
    """
    return np.array(
        [
            average_precision(points_of_values(of_class, there), int(there.sum()))
            if there.any()
            else np.nan
            for of_class, there in zip(scores.T.astype(np.float64), present.T, strict=True)
        ],
        dtype=np.float64,
    )


def tag_ranking(scores: npt.NDArray[np.floating], present: npt.NDArray[np.bool_]) -> Floats:
    """(class,) label-weighted label-ranking average precision (lwlrap); NaN without a clip.

    Of each class that a clip contains, the share of contained classes among those that score at
    least as high in the clip; a class has the mean over its clips. The mean of all, which is
    `lwlrap`, weights classes by their clips. Arguments as of `tag_precision`.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked, there = (np.take_along_axis(of, order, axis=1) for of in (scores, present))
    n_classes = scores.shape[1]
    # Classes of one score share the last place of theirs.
    ends = np.append(ranked[:, 1:] != ranked[:, :-1], np.ones((len(scores), 1), bool), axis=1)
    place = np.where(ends, np.arange(n_classes), n_classes)
    place = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    hits = np.take_along_axis(np.cumsum(there, axis=1), place, axis=1)
    precision = np.where(there, hits / (place + 1), 0.0)
    sums = np.zeros(n_classes)
    np.add.at(sums, order, precision)
    counts = present.sum(0)
    found: Floats = np.divide(sums, counts, out=np.full(n_classes, np.nan), where=counts > 0)
    return found


def lwlrap(ranking: Floats, references: Ints) -> float:
    """The mean of `tag_ranking` over the classes, weighted by their clips; NaN without any."""
    there = references > 0
    if not there.any():
        return float("nan")
    return float(np.average(ranking[there], weights=references[there]))
