"""Frame scores of whole recordings, from one scorer or the mean of several."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice, tee
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from desed_task.audio.windows import Waveform, Window, WindowGrid
from desed_task.errors import InputError, count_of
from desed_task.inference.overlap_add import OverlapAdd, ScoreRows
from desed_task.inference.scorers.class_columns import ClassColumns, WantedClass
from desed_task.inference.scorers.interface import Scorer
from desed_task.inference.scorers.resampling import StepResampler
from desed_task.inference.tuned_values import for_labels
from desed_task.parallel import prefetch

# Windows per batch; on the CPU per thread, as more would not fit its caches.
_BATCH_GPU, _BATCH_CPU = 32, 4
_EXAMPLES: Final = 5


class _Member(NamedTuple):
    """A scorer, where its windows lie, and the classes that it gives."""

    scorer: Scorer
    windows: WindowGrid
    columns: ClassColumns


class _Job(NamedTuple):
    """Windows for one member."""

    member: int
    windows: list[Window]


class JointScores:
    """Scores of recordings by all scorers, averaged class by class.

    Each scorer has windows of its own and gives what it gives alone. Its scores are brought to the
    shortest frames of all by means over time; then a class gets the mean over the scorers that
    have it.

    Args:
        scorers: at least one; all take audio of one sample rate.
        hop_s: seconds from one window to the next.
        batch_size: windows at a time (on the CPU per thread); None for 32 on a GPU, else 4.
        wanted: classes to give; None for all that any of the scorers has.

    Attributes:
        labels: classes of the scores.
        windows: those of the scorer with the shortest frames, whose frames the scores have.
        notes: what is not evident of the classes, one line each.

    Raises:
        InputError: for sample rates that differ, a hop out of range, a scorer with none of the
            wanted classes, and classes that none has.
    """

    def __init__(
        self,
        scorers: Sequence[Scorer],
        *,
        hop_s: float,
        batch_size: int | None = None,
        wanted: Sequence[WantedClass] | None = None,
    ) -> None:
        self.scorers = tuple(scorers)
        rates = {scorer.grid.sample_rate for scorer in self.scorers}
        if len(rates) > 1:
            shown = ", ".join(f"{one.name} {one.grid.sample_rate} Hz" for one in self.scorers)
            raise InputError(f"detectors of different sample rates cannot be averaged: {shown}")
        columns = [
            ClassColumns.all_of(one.classes)
            if wanted is None
            else ClassColumns.among(one.classes, wanted)
            for one in self.scorers
        ]
        windows = [WindowGrid.with_hop(one.grid, hop_s) for one in self.scorers]
        self._members = [*map(_Member, self.scorers, windows, columns)]
        in_order = columns if wanted is None else [_order(wanted, columns)]
        self.labels = tuple(dict.fromkeys(label for one in in_order for label in one.labels))
        self.notes = _notes(self._members, wanted)
        self._main = min(
            range(len(windows)), key=lambda place: windows[place].grid.frame_s
        )  # the first of several
        self.windows = windows[self._main]
        self.device = self.scorers[0].device
        on_gpu = self.device.type != "cpu"
        self.batch_size = batch_size or (_BATCH_GPU if on_gpu else _BATCH_CPU)

    @property
    def classes(self) -> tuple[str, ...]:
        """`labels`, as post-processing calls them."""
        return self.labels

    @property
    def median_filter(self) -> tuple[int, ...]:
        """(class,) odd lengths in frames: of each class that of the first scorer that has it."""
        found: dict[str, int] = {}
        for scorer, windows, columns in self._members:
            ratio = windows.grid.frame_s / self.windows.grid.frame_s
            for label, group in zip(columns.labels, columns.groups, strict=True):
                length = scorer.median_filter[group[0]]
                if ratio != 1:
                    length = 2 * round((length * ratio - 1) / 2) + 1
                found.setdefault(label, max(1, length))
        return tuple(found[label] for label in self.labels)

    @property
    def decoder(self) -> dict[str, Any]:
        """Plain settings of the decoder: those of the first scorer, for these classes."""
        return for_labels(self.scorers[0].decoder, self.labels)

    def of_blocks(self, blocks: Iterable[Waveform]) -> Iterator[ScoreRows]:
        """Scores (frame, class) of a recording, as soon as they are final.

        Args:
            blocks: (sample,) each, of any length, at the scorers' rate.

        Raises:
            InputError: they contain no samples.
        """
        tracks = [_Track.of(member, self.windows, self.labels) for member in self._members]
        for job, scores in self._computed(self._jobs(blocks)):
            track = tracks[job.member]
            for window, of_window in zip(job.windows, scores, strict=True):
                rows = track.final_rows(window, of_window)
                if len(tracks) == 1:
                    yield rows
                else:
                    track.pending = np.concatenate([track.pending, rows])
            if len(tracks) > 1:
                yield _mean(tracks, min(len(one.pending) for one in tracks))
        if len(tracks) > 1:
            left = len(tracks[self._main].pending)
            n_frames = tracks[self._main].n_given + left
            for track in tracks:
                track.finish(n_frames)
            yield _mean(tracks, left)

    def _jobs(self, blocks: Iterable[Waveform]) -> Iterator[_Job]:
        """Batches of windows of all members, by time, so that few blocks are kept."""
        sources = tee(blocks, len(self._members)) if len(self._members) > 1 else (blocks,)
        parts = [
            map(partial(_Job, place), _batches(member.windows.cut(source), self.batch_size))
            for place, (member, source) in enumerate(zip(self._members, sources, strict=True))
        ]
        return heapq.merge(*parts, key=self._begins_s) if len(parts) > 1 else parts[0]

    def _begins_s(self, job: _Job) -> float:
        return job.windows[0].first * self._members[job.member].windows.grid.frame_s

    def _computed(self, jobs: Iterator[_Job]) -> Iterator[tuple[_Job, ScoreRows]]:
        """Scores (window, frame, class) of batches, while the next ones are read."""
        start = list(islice(jobs, 2))
        if self.device.type != "cpu":
            yield from prefetch(self._score, chain(start, jobs), 1)
        elif len(start) < 2:
            yield from map(self._score, start)
        else:
            # One batch per core is faster than all cores on one batch.
            n_threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                yield from prefetch(self._score, chain(start, jobs), n_threads)
            finally:
                torch.set_num_threads(n_threads)

    @torch.inference_mode()
    def _score(self, job: _Job) -> tuple[_Job, ScoreRows]:
        waveform = torch.from_numpy(np.stack([window.waveform for window in job.windows]))
        scores = self.scorers[job.member].scores(waveform.to(self.device))
        found: ScoreRows = scores.float().cpu().numpy()
        return job, found


@dataclass
class _Track:
    """What one member has given of a recording.

    Attributes:
        pending: (frame, class) on the common frames, not yet averaged.
        places: where its classes are among all.
        n_labels: number of all classes.
        n_given: frames that are averaged.
    """

    columns: ClassColumns
    adder: OverlapAdd
    resampler: StepResampler | None
    pending: ScoreRows
    places: list[int]
    n_labels: int
    n_given: int = field(default=0)

    @classmethod
    def of(cls, member: _Member, common: WindowGrid, labels: Sequence[str]) -> _Track:
        """That of a recording of which nothing is known."""
        own, target = member.windows.grid.frame_samples, common.grid.frame_samples
        return cls(
            member.columns,
            OverlapAdd(member.windows, len(member.scorer.classes)),
            None if member.windows == common else StepResampler(own, target),
            np.empty((0, len(member.columns.labels)), dtype=np.float32),
            [labels.index(label) for label in member.columns.labels],
            len(labels),
        )

    def final_rows(self, window: Window, scores: ScoreRows) -> ScoreRows:
        """Take the scores (frame, class) of a window; returns those that become final."""
        rows = self.columns.of(self.adder.add(window, scores))
        return rows if self.resampler is None else self.resampler.add(rows)

    def finish(self, n_frames: int) -> None:
        """No window follows, and the recording has `n_frames` on the common frames."""
        if self.resampler is not None:
            self.pending = np.concatenate([self.pending, self.resampler.finish(n_frames)])

    def take(self, n_frames: int) -> ScoreRows:
        """The next frames."""
        found, self.pending = self.pending[:n_frames], self.pending[n_frames:]
        self.n_given += n_frames
        return found


def _mean(tracks: Sequence[_Track], n_frames: int) -> ScoreRows:
    """The next `n_frames` of all classes, each the mean over the tracks that have it."""
    total = np.zeros((n_frames, tracks[0].n_labels))
    count = np.zeros(tracks[0].n_labels)
    for track in tracks:
        total[:, track.places] += track.take(n_frames)
        count[track.places] += 1
    averaged: ScoreRows = (total / count).astype(np.float32)
    return averaged


def _order(wanted: Sequence[WantedClass], columns: Sequence[ClassColumns]) -> ClassColumns:
    """The wanted classes that there are, in their order."""
    there = {label for one in columns for label in one.labels}
    labels = tuple(label for label, _ in wanted if label in there)
    return ClassColumns(labels, ())


def _notes(members: Sequence[_Member], wanted: Sequence[WantedClass] | None) -> list[str]:
    """What to say of the classes; refuses members that add nothing."""
    names = [member.scorer.name for member in members]
    own = [set(member.columns.labels) for member in members]
    union = set().union(*own)
    for name, labels in zip(names, own, strict=True):
        if not labels:
            shown = _examples([label for label, _ in wanted or ()])
            others = " or leave it out" if len(members) > 1 else ""
            raise InputError(
                f"{name}: has none of the chosen classes ({shown}); choose others{others}"
            )
    notes = []
    if missing := [label for label, _ in wanted or () if label not in union]:
        notes.append(f"no detector has these classes: {_examples(missing)}")
    if len(members) > 1:
        total = count_of(len(union), "class", "classes")
        shared = [label for label in members[0].columns.labels if all(label in o for o in own)]
        shown = f"{len(shared)} of {total} ({_examples(shared) or 'none'})"
        notes.append(f"scores of {len(members)} detectors are averaged; all of them have {shown}")
        for name, labels in zip(names, own, strict=True):
            alone = labels - set().union(*(other for other in own if other is not labels))
            if alone:
                ordered = [label for m in members for label in m.columns.labels if label in alone]
                notes.append(f"{len(alone)} of {total} by {name} alone: {_examples(ordered)}")
    return notes


def _examples(labels: Sequence[str]) -> str:
    # Names may contain commas.
    return "; ".join([*labels[:_EXAMPLES], *["..."] * (len(labels) > _EXAMPLES)])


def _batches(windows: Iterator[Window], size: int) -> Iterator[list[Window]]:
    while batch := list(islice(windows, size)):
        yield batch
