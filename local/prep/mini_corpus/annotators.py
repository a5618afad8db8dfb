"""Simulate MAESTRO's soft labels: annotators tag windows, and their votes become values per second.

Each annotator hears 10 s windows with a hop of 1 s and ticks the classes heard. How far an
annotator agrees with the others gives the weight of the votes; a second's value is the mean of the
weighted votes over the windows that contain it. After Martin-Morato and Mesaros, "Strong labeling
of sound events using crowdsourced weak labels and annotator competence estimation" (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from local.prep.mini_corpus.soundscapes import PlannedEvent
from local.prep.mini_corpus.synthesis import Rng

WINDOW_S = 10
N_ANNOTATORS = 5
_SMALLEST = 0.005

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Annotator:
    """Parameters of one annotator.

    Attributes:
        needs_s: seconds of a class in a window that are noticed with a probability of one half.
        sharpness_s: width of the transition around `needs_s`.
        misses: probability of leaving out a class that was noticed.
        invents: probability of ticking a class of the scene that is absent.
    """

    needs_s: float
    sharpness_s: float
    misses: float
    invents: float


def draw_annotator(rng: Rng) -> Annotator:
    """Draw an annotator between careful and careless."""
    care = rng.uniform()
    return Annotator(
        needs_s=2.0 + 3.0 * (1 - care) + rng.uniform(-0.5, 0.5),
        sharpness_s=0.3 + 0.6 * (1 - care),
        misses=0.02 + 0.13 * (1 - care),
        invents=0.002 + 0.03 * (1 - care),
    )


def soft_labels(
    rng: Rng, events: Sequence[PlannedEvent], classes: Sequence[str], duration_s: float
) -> Floats:
    """Simulate soft values (class, second) of a recording, in [0, 1].

    Args:
        rng: draws annotators and votes.
        events: events of the recording.
        classes: classes that the annotators may tick.
        duration_s: length of the recording; the last second may be incomplete.
    """
    heard_s = _heard(events, classes, int(np.ceil(duration_s)))
    votes = np.stack([_votes(rng, draw_annotator(rng), heard_s) for _ in range(N_ANNOTATORS)])
    opinion = np.tensordot(competence(votes), votes, axes=1)
    return spread_windows(opinion, WINDOW_S)


def competence(votes: Bools) -> Floats:
    """Weights (annotator,), adding up to 1: agreement with the majority where anybody ticked.

    Args:
        votes: (annotator, class, window).
    """
    disputed = votes.any(axis=0)
    majority = votes.mean(axis=0) > 0.5
    agreement = (
        (votes == majority)[:, disputed].mean(axis=1) if disputed.any() else np.ones(len(votes))
    )
    # An agreement of one half is chance.
    weight = np.maximum(2 * agreement - 1, 0.05)
    return weight / weight.sum()


def spread_windows(opinion: Floats, window: int) -> Floats:
    """Average windows (class, n) over `window` neighbours to seconds (class, n - window + 1)."""
    return np.lib.stride_tricks.sliding_window_view(opinion, window, axis=1).mean(axis=2)


def format_annotation(values: Floats, classes: Sequence[str]) -> str:
    """Format MAESTRO's annotation: onset, offset, label and soft value of each second above 0."""
    lines = [
        f"{second}\t{second + 1}\t{classes[index]}\t{values[index, second]:.4f}"
        for second, index in np.argwhere(values.T >= _SMALLEST).tolist()
    ]
    return "".join(f"{line}\n" for line in lines)


def _heard(events: Sequence[PlannedEvent], classes: Sequence[str], n_seconds: int) -> Floats:
    """Compute how long each class sounds in each window, in seconds (class, window).

    As if a recording were cut from a longer one, windows reach over both ends, so that each second
    lies in as many windows as any other.
    """
    starts = np.arange(1 - WINDOW_S, n_seconds)
    heard = np.zeros((len(classes), len(starts)))
    for event in events:
        shared = np.minimum(event.offset_s, starts + WINDOW_S) - np.maximum(event.onset_s, starts)
        heard[classes.index(event.label)] += np.maximum(shared, 0)
    return heard


def _votes(rng: Rng, annotator: Annotator, heard_s: Floats) -> Bools:
    # A class that never lasts as long as an annotator needs is noticed where it lasts longest.
    fullest_s = np.maximum(heard_s.max(axis=1, keepdims=True), 1e-9)
    needs_s = np.minimum(annotator.needs_s, 0.8 * fullest_s)
    noticed = 1 / (1 + np.exp(-(heard_s - needs_s) / annotator.sharpness_s))
    noticed = np.where(heard_s > 0, noticed * (1 - annotator.misses), annotator.invents)
    return rng.random(heard_s.shape) < noticed
