"""Find the best candidates of all classes together, by trying all of each class.

PSDS1 subtracts how far classes lie apart, so a class's best candidate depends on the others': from
several starting points each class in turn gets its best candidate until none changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from desed_task.evaluation.psds import PSDS1
from desed_task.evaluation.scores import Floats
from local.tuning.decoders.candidates import Candidates, order_of
from local.tuning.decoders.objective import DecoderObjective

MAX_PASSES = 20
# Values of a screening that are this close to the best one are computed exactly.
_CLOSE = 1e-9


def best_candidates(
    objective: DecoderObjective,
    start: Mapping[str, Any],
    candidates: Candidates,
    *,
    most_starts: int | None = None,
) -> dict[str, Any]:
    """The candidates with the highest PSDS1 that is found.

    Args:
        objective: objective of the part that is tuned on.
        start: candidate of each class that is scored in events; one without candidates keeps its
            own.
        candidates: class -> candidates to try.
        most_starts: begin from so many of the candidates for all classes alike, the best ones;
            None for all.
    """
    begin = {label: start[label] for label in objective.event_labels}
    if not begin:
        return {}
    tried = {
        label: tuple(dict.fromkeys((own, *candidates.get(label, ()))))
        for label, own in begin.items()
    }
    ascent = _Ascent(objective, tried)
    alone = {
        label: max(tried[label], key=lambda one, of=label: objective.alone(of, one))  # type: ignore[misc]
        for label in begin
    }
    every = sorted({one for of in tried.values() for one in of}, key=order_of)
    alike = [
        {label: one if one in tried[label] else begin[label] for label in begin} for one in every
    ]
    if most_starts is not None:
        alike = sorted(alike, key=ascent.psds1, reverse=True)[:most_starts]
    found = [ascent.climb(each) for each in (begin, alone, *alike)]
    return max(found, key=ascent.psds1)


class _Ascent:
    """Climbs by one class at a time; all its candidates are compared at once.

    Args:
        objective: gives the curves.
        tried: candidates of each class.
    """

    def __init__(self, objective: DecoderObjective, tried: Mapping[str, Sequence[Any]]) -> None:
        self.objective, self.tried = objective, tried
        self._values: dict[tuple[Any, ...], float] = {}
        rocs = {label: [objective.roc(label, one) for one in of] for label, of in tried.items()}
        edges = np.unique(np.concatenate([roc.efpr for of in rocs.values() for roc in of]))
        edges = edges[edges < PSDS1.max_efpr]
        self._width = np.diff(np.append(edges, PSDS1.max_efpr)) / PSDS1.max_efpr
        self._tpr: dict[str, Floats] = {
            label: np.stack(
                [roc.tpr[np.searchsorted(roc.efpr, edges, side="right") - 1] for roc in of]
            )
            for label, of in rocs.items()
        }

    def psds1(self, of: Mapping[str, Any]) -> float:
        """PSDS1 of a candidate for each class."""
        key = tuple(of.values())
        if key not in self._values:
            self._values[key] = self.objective.psds1(of)
        return self._values[key]

    def climb(self, begin: Mapping[str, Any]) -> dict[str, Any]:
        """Candidates that no single change improves (a local optimum)."""
        of = dict(begin)
        best = self.psds1(of)
        for _ in range(MAX_PASSES):
            before = best
            for label in of:
                values = {one: self.psds1({**of, label: one}) for one in self._promising(of, label)}
                candidate = max(values, key=lambda one: values[one])
                if values[candidate] > best:
                    of[label], best = candidate, values[candidate]
            if best == before:
                break
        return of

    def _promising(self, of: Mapping[str, Any], label: str) -> list[Any]:
        """The candidates of a class that are the best one but for rounding, in their order."""
        tried = self.tried[label]
        rates = np.stack(
            [
                self._tpr[one][self.tried[one].index(candidate)]
                for one, candidate in of.items()
                if one != label
            ]
            or [np.empty(0)]
        )
        n_classes = len(of)
        whole = np.empty((len(tried), n_classes, len(self._width)))
        whole[:, 0] = self._tpr[label]
        if n_classes > 1:
            whole[:, 1:] = rates
        effective = whole.mean(axis=1) - PSDS1.alpha_st * whole.std(axis=1)
        values = effective.clip(min=0.0) @ self._width
        return [
            one for one, value in zip(tried, values, strict=True) if value >= values.max() - _CLOSE
        ]
