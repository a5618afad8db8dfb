"""PSDS that depends less on what was chosen: non-oracle PSDS, and PSDS of many decoders (piPSDS).

Ebbers, Haeb-Umbach and Serizel, "Post-processing independent evaluation of sound event detection
systems", DCASE Workshop 2023 (arXiv 2306.15440).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from desed_task.evaluation.psds import Psds, PsdsSpec, Roc, psds_of_rocs, staircase

# False positives per hour to which rates are compared.
_DECIMALS = 6


def non_oracle_psds(found: Psds, spec: PsdsSpec) -> Psds:
    """The PSDS whose classes keep the operating points that a false positive rate leads to.

    See `non_oracle_roc`. No class is above its value in the PSDS.

    Args:
        found: an exact PSDS (`several_exact_psds`), whose operating points are used.
        spec: its parameters, as given for all its classes.
    """
    labels = list(found.class_points)
    rocs = [non_oracle_roc(points) for points in found.class_points.values()]
    return psds_of_rocs(rocs, labels, spec.of_classes(len(labels)))


def non_oracle_roc(points: Roc) -> Roc:
    """The rate at the last operating point up to each false positive rate, from (0, 0) on.

    A PSDS takes the best rate up to there instead, which only the truth can tell. Of points of
    one false positive rate, that of the lowest threshold counts.

    Args:
        points: rates by falling threshold.
    """
    # Sums of cross-triggers that are equal differ by rounding, which must not order them.
    rounded = np.round(points.efpr, _DECIMALS)
    order = np.argsort(rounded, kind="stable")
    new = np.append(True, np.diff(rounded[order]) != 0)[: len(order)]
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(order))[: len(first)] - 1
    efpr = np.maximum.reduceat(points.efpr[order], first) if len(first) else np.zeros(0)
    tpr = points.tpr[order][last]
    if not len(efpr) or efpr[0] > 0:
        efpr, tpr = np.append(0.0, efpr), np.append(0.0, tpr)
    return Roc(efpr, tpr)


def post_processing_independent_psds(members: Sequence[Psds], spec: PsdsSpec) -> Psds:
    """The PSDS of the best operating point of any decoder at each false positive rate (piPSDS).

    The operating points of a class over all decoders form one curve. No class is below its value
    in the PSDS of a member.

    Args:
        members: exact PSDS of what each decoder makes of the same scores.
        spec: their parameters, as given for all their classes.
    """
    labels = list(members[0].class_rocs)
    rocs = [union_roc([one.class_rocs[label] for one in members]) for label in labels]
    return psds_of_rocs(rocs, labels, spec.of_classes(len(labels)))


def union_roc(rocs: Sequence[Roc]) -> Roc:
    """The staircase over the operating points of several curves."""
    return staircase(*(np.concatenate(column) for column in zip(*rocs, strict=True)))
