"""Choose batches, epochs, network and filters that suit the size of a task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from local.describe.label_files import LabelledEvent
from local.describe.plan import Plan, PlannedCorpus
from local.describe.recordings import Recordings

# The published clip length, in seconds, which recordings that are all shorter do not need.
CLIP_S: Final = 10
_SHORT_S: Final = 5
# Seconds of a frame of scores, of both networks.
FRAME_S: Final = 0.064
# Fewer training clips get the small network.
_MANY: Final = 2000
# Batches of a training: fewer epochs for more clips.
_STEPS: Final = (600, 20000)
_MOST_ROWS: Final = (16, 24)
_MOST_EPOCHS: Final = 200
# Share of an event's usual length that the median filter is long.
_FILTER_SHARE: Final = 0.3
_LONGEST_FILTER: Final = 25


@dataclass(frozen=True)
class Sizes:
    """Numbers of a configuration.

    Attributes:
        clip_s: length of a clip.
        n_training: training clips, windows of longer recordings included.
        rows: corpus -> rows in a batch.
        n_epochs: of the training.
        interval: epochs between validations.
        is_small: whether the small network is taken.
        filters: class -> frames of its median filter.
        n_long: recordings that are longer than a clip.
    """

    clip_s: int
    n_training: int
    rows: Mapping[str, int]
    n_epochs: int
    interval: int
    is_small: bool
    filters: Mapping[str, int]
    n_long: int

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return max(self.n_training // max(sum(self.rows.values()), 1), 1)


def choose_sizes(plan: Plan, found: Recordings) -> Sizes:
    """The numbers for a plan."""
    durations_s = found.durations_s
    longest_s = max(durations_s.values())
    clip_s = max(math.ceil(longest_s), 2) if longest_s <= _SHORT_S else CLIP_S
    windows = {c.name: _training_windows(c, durations_s, clip_s) for c in plan.corpora}
    trained = [c for c in plan.corpora if c.use in (None, "train")]
    labelled = {c.name: windows[c.name] for c in trained if c.labels is not None}
    n_labelled = sum(labelled.values())
    is_small = n_labelled < _MANY
    most = _MOST_ROWS[0] if is_small else _MOST_ROWS[1]
    rows = {name: _rows(n, most) for name, n in labelled.items()}
    for corpus in trained:
        if corpus.labels is None:
            rows[corpus.name] = min(_rows(windows[corpus.name], most), sum(rows.values()))
    # Every epoch ends with the smallest set.
    steps = max(min(windows[name] // n for name, n in rows.items() if windows[name]), 1)
    wanted = _STEPS[0] if is_small else _STEPS[1]
    n_epochs = min(max(math.ceil(wanted / steps / 10) * 10, 10), _MOST_EPOCHS)
    return Sizes(
        clip_s,
        n_labelled,
        rows,
        n_epochs,
        n_epochs // 10,
        is_small,
        _filters(plan),
        sum(value > clip_s for value in durations_s.values()),
    )


def _training_windows(corpus: PlannedCorpus, durations_s: Mapping[str, float], clip_s: int) -> int:
    """Clips of a corpus that are trained on, longer ones counted once per window."""
    share = 1 - sum(v for k, v in corpus.split.items() if k in ("validation", "test"))
    # A held-out part has one clip at least.
    counts = [max(math.ceil(durations_s[clip] / clip_s - 0.01), 1) for clip in corpus.clips]
    n_clips = max(math.floor(share * len(counts)), 1)
    return sum(sorted(counts)[:n_clips])  # Whichever are drawn, there are as many.


def _rows(n_clips: int, most: int) -> int:
    """Rows of a batch, of which an epoch has four or more if it can."""
    return max(min(n_clips // 4, most), 1)


def _filters(plan: Plan) -> dict[str, int]:
    """Class -> odd number of frames, a share of the median length of its events."""
    lengths: dict[str, list[float]] = {label: [] for label in plan.classes}
    for event in (one for corpus in plan.corpora for one in corpus.events):
        label = plan.label_map.get(event.label, event.label)
        if label in lengths and event.onset_s is not None and event.offset_s is not None:
            lengths[label].append(event.offset_s - event.onset_s)
    return {label: _filter(values) for label, values in lengths.items()}


def _filter(lengths_s: Sequence[float]) -> int:
    if not lengths_s:
        return 7
    frames = _FILTER_SHARE * float(np.median(lengths_s)) / FRAME_S
    return min(max(2 * int(frames // 2) + 1, 3), _LONGEST_FILTER)


def events_of_class(plan: Plan) -> dict[str, list[LabelledEvent]]:
    """Class -> its events in all corpora."""
    found: dict[str, list[LabelledEvent]] = {label: [] for label in plan.classes}
    for event in (one for corpus in plan.corpora for one in corpus.events):
        label = plan.label_map.get(event.label, event.label)
        if label is not None:
            found[label].append(event)
    return found
