"""Compare decoders on the test set: tuned on held-out clips, cross-fitted, and as an oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from desed_task.evaluation.scores import Floats
from desed_task.parallel import Progress, progress_of
from desed_task.postprocess.decoders import MEDIAN
from local.summary import bootstrap
from local.task.corpus import Corpus
from local.tuning.decoders.figures import (
    DrawnFigures,
    Figures,
    difference,
    figures_of,
    interval_of,
    resample,
)
from local.tuning.decoders.fit import Fit, Method, fit_decoder
from local.tuning.decoders.parts import Fold, Part

HELD_OUT: Final = "held-out"
CROSS_FITTED: Final = "cross-fitted"
ORACLE: Final = "oracle"
OWN: Final = "checkpoint's own"
SEED: Final = 0


@dataclass(frozen=True)
class ComparedRow:
    """One way of decoding the test set.

    Attributes:
        system: the decoder, or that the settings are the checkpoint's own.
        tuned: where its parameters come from.
        figures: of the test set.
        fits: with what it is decoded: one, or one per fold.
    """

    system: str
    tuned: str
    figures: Figures
    fits: tuple[Fit, ...]

    @property
    def notes(self) -> list[str]:
        """What could not be tuned, by fold."""
        of_folds = len(self.fits) > 1
        return [
            f"{self.system}, {self.tuned}{f', fold {number}' if of_folds else ''}: {note}"
            for number, one in enumerate(self.fits, 1)
            for note in one.notes
        ]


@dataclass
class Comparison:
    """All rows, their resamples, and the differences to median filters tuned the same way.

    Attributes:
        rows: the rows.
        resampled: of each row; empty without a bootstrap.
        n_resamples: number of resamples.
        n_folds: number of folds; 0 without cross-fitting.
        corpus: the test set; None in made-up comparisons.
    """

    rows: list[ComparedRow] = field(default_factory=list)
    resampled: list[DrawnFigures] = field(default_factory=list)
    n_resamples: int = 0
    n_folds: int = 0
    corpus: Corpus | None = None

    @property
    def title(self) -> str:
        """The test set, for readers."""
        return "the test set" if self.corpus is None else self.corpus.title

    def interval(self, number: int, name: str) -> tuple[float, float] | None:
        """The interval of a row's figure; None without one."""
        if not self.resampled or name not in self.resampled[number].values:
            return None
        value = self.rows[number].figures.values[name]
        return interval_of(self.resampled[number].values[name], value)

    def differences(self) -> Iterator[tuple[ComparedRow, str, Mapping[str, float]]]:
        """Each other decoder less median filters that were tuned the same way."""
        if not self.resampled:
            return
        medians = {row.tuned: n for n, row in enumerate(self.rows) if row.system == MEDIAN}
        for number, row in enumerate(self.rows):
            other = medians.get(row.tuned)
            if other is None or other == number:
                continue
            one, less = ((self.rows[n].figures, self.resampled[n]) for n in (number, other))
            for name in row.figures.metrics:
                if name in less[0].metrics:
                    yield row, name, difference(one, less, name)


def marked(fit_: Fit, part: Part, honest: str) -> str:
    """Where a fit's parameters come from, by the clips that it has seen."""
    return ORACLE if fit_.is_oracle(part) else honest


def rows_of(
    method: Method, held_out: Fit, part: Part, folds: Sequence[Fold], oracle: Fit, bar: Progress
) -> Iterator[ComparedRow]:
    """A decoder tuned in each way.

    Args:
        method: how it is tuned.
        held_out: its fit to held-out clips; None if there is none.
        part: the test set.
        folds: its folds; none for no cross-fitting.
        oracle: its fit to the test set; None if there is none.
        bar: progress, one step per fold.
    """
    system = method.kind
    if held_out is not None:
        yield row_of(system, marked(held_out, part, HELD_OUT), part, [(held_out, part)])
    if folds:
        pieces = []
        for fold in folds:
            bar.set_description(f"{system}: cross-fitting")
            found = fit_decoder(fold.others, method)
            if found.is_oracle(fold.scored):
                raise AssertionError("a fold was tuned on clips that it scores")
            pieces.append((found, fold.scored))
            bar.update()
        yield row_of(system, CROSS_FITTED, part, pieces)
    if oracle is not None:
        yield row_of(system, marked(oracle, part, HELD_OUT), part, [(oracle, part)])


def row_of(system: str, tuned: str, part: Part, pieces: Sequence[tuple[Fit, Part]]) -> ComparedRow:
    """A row of the comparison."""
    return ComparedRow(system, tuned, figures_of(part, pieces), tuple(fit for fit, _ in pieces))


def add_resamples(comparison: Comparison, n_resamples: int) -> None:
    """Draw clips for all rows alike.

    Raises:
        InputError: for a number of resamples that gives no interval.
    """
    bootstrap.check_resamples(n_resamples)
    clip_ids = sorted(comparison.rows[0].figures.clip_ids)
    if not n_resamples or len(clip_ids) < 2:
        return
    weights: Floats = bootstrap.draw_resamples(len(clip_ids), n_resamples, (SEED,))
    total = n_resamples * len(comparison.rows)
    with progress_of("resampling", total, unit="resample") as bar:
        for row in comparison.rows:
            bar.set_description(f"{row.system}, {row.tuned}: resampling")
            comparison.resampled.append(resample(row.figures, clip_ids, weights, bar))
    comparison.n_resamples = n_resamples


def plain(value: Any) -> Any:
    """A figure for JSON, which has no NaN."""
    return None if isinstance(value, float) and value != value else value
