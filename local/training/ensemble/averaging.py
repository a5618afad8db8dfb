"""The mean of several checkpoints' scores, before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from desed_task.distributed.collectives import process_rank
from desed_task.errors import InputError, count_of
from desed_task.mean_teacher import ROLES
from local.data.corpus_checks import examples
from local.scoring.accumulator import CollectedRow, ScoreAccumulator
from local.task.corpus import Corpus


@dataclass
class _Sum:
    """Rows of one network on one corpus, added up.

    Attributes:
        place: name of a row -> where it is.
        n_added: checkpoints whose rows are in it.
        rows: (row, ...) sums in double precision, so that the order of checkpoints hardly matters.
    """

    place: dict[CollectedRow, int]
    rows: NDArray[np.float64]
    n_added: int = 1


class ScoreSums:
    """Adds up the scores of checkpoints, one after the other, for their mean.

    Only sums are kept. Of several processes, the first one has them.

    Args:
        classes: of the mean, in their order.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.clear()

    def clear(self) -> None:
        """Forget all scores."""
        self.n_added = 0
        self._sums: dict[tuple[str, str, str], _Sum] = {}

    def take(self, scores: ScoreAccumulator, corpora: Sequence[Corpus], origin: str) -> None:
        """Add what a checkpoint has scored, and clear it; every process must call it.

        Args:
            scores: of the checkpoint, whose task may have the classes in another order.
            corpora: what was scored, as the checkpoint's task has it.
            origin: path of the checkpoint.

        Raises:
            InputError: it has scored other clips than the ones before, or not in the same ways.
        """
        scores.gather(corpora)
        if process_rank() == 0:
            columns = [scores.task.classes.index(label) for label in self.classes]
            for role in ROLES:
                for corpus in corpora:
                    for kind, collector in scores.collectors(role, corpus).items():
                        # (row, class, frame) and (row, [score, presence], class).
                        axis = 1 if kind == "frames" else 2
                        names, rows = collector.named_rows()
                        self._add(
                            (role, corpus.name, kind), names, rows.take(columns, axis), origin
                        )
        scores.clear()
        self.n_added += 1

    def _add(
        self,
        key: tuple[str, str, str],
        names: Sequence[CollectedRow],
        rows: NDArray[np.float32],
        origin: str,
    ) -> None:
        if key not in self._sums and self.n_added == 0:
            place = {name: row for row, name in enumerate(names)}
            self._sums[key] = _Sum(place, rows.astype(np.float64))
            return
        total = self._sums.get(key)
        if total is None or total.n_added != self.n_added:
            raise InputError(
                f"{origin}: scores {key[2]} of {key[1]}, and not every checkpoint before it does; "
                "give checkpoints whose tasks score the same things"
            )
        if differing := {*names} ^ total.place.keys():
            clips = sorted({name.clip_id for name in differing})
            raise InputError(
                f"{origin}: {count_of(len(clips), 'clip')} of {key[1]} scored by it or by the "
                f"checkpoints before it, but not by both ({examples(clips)}); scores can be "
                "averaged of the same clips only"
            )
        total.rows[[total.place[name] for name in names]] += rows
        total.n_added += 1

    def put_mean(self, scores: ScoreAccumulator, corpora: Sequence[Corpus]) -> None:
        """Replace what was scored by the mean, in the first process.

        Args:
            scores: gets it; has the classes in the order of the mean.
            corpora: what was scored.
        """
        scores.clear()
        for role in ROLES:
            for corpus in corpora:
                for kind, collector in scores.collectors(role, corpus).items():
                    total = self._sums.pop((role, corpus.name, kind), None)
                    if total is None:  # in another process
                        continue
                    if total.n_added != self.n_added:
                        raise InputError(
                            f"{kind} of {corpus.name} are scored by {total.n_added} of "
                            f"{count_of(self.n_added, 'checkpoint')}; give checkpoints whose tasks "
                            "score the same things"
                        )
                    mean = torch.from_numpy((total.rows / total.n_added).astype(np.float32))
                    clip_ids, spans = zip(*total.place, strict=True) if total.place else ((), ())
                    collector.add(clip_ids, mean, spans)
