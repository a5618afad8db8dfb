"""Totals over recordings: counted in each process, added up in the first one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from desed_task.errors import agree, count_of
from desed_task.file_names import escape_name
from desed_task.inference.detector import DetectionResult
from local.predict.recordings import Recording
from local.predict.timeline import duration_text

_EXAMPLES = 3
# Rows on the terminal; detectors may have hundreds of classes.
_MOST_CLASSES = 60


@dataclass
class PredictionSummary:
    """Totals over all recordings.

    Attributes:
        n_done: recordings processed.
        n_skipped: recordings whose results were there; `skipped` are the first of them.
        audio_s: length in seconds of those processed; `busy_s` is the processing time.
        events: label -> number of events.
        event_s: label -> seconds of events.
        faults: errors, of recordings and of the table of all.
        failed: name of a recording's results -> why there are none.
        n_processes: processes that have worked at the same time.
    """

    n_done: int = 0
    n_skipped: int = 0
    skipped: list[Recording] = field(default_factory=list)
    audio_s: float = 0.0
    busy_s: float = 0.0
    events: Counter[str] = field(default_factory=Counter)
    event_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    faults: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    n_processes: int = 1

    def add(self, found: DetectionResult, busy_s: float) -> None:
        """Count a recording and its processing time."""
        self.n_done += 1
        self.audio_s += found.duration_s
        self.busy_s += busy_s
        for event in found.events:
            self.events[event.label] += 1
            self.event_s[event.label] += event.offset_s - event.onset_s

    def skip(self, recording: Recording) -> None:
        """Count a recording whose results are there."""
        self.n_skipped += 1
        if len(self.skipped) < _EXAMPLES:
            self.skipped.append(recording)

    def fail(self, recording: Recording, fault: str) -> None:
        """Note why a recording has no results."""
        self.faults.append(fault)
        self.failed[recording.name] = fault

    @classmethod
    def of_all(cls, summaries: Iterable[PredictionSummary]) -> PredictionSummary:
        """The sum over processes that have worked at the same time: the slowest one's time."""
        total = cls(n_processes=0)
        for one in summaries:
            total.n_processes += one.n_processes
            total.n_done += one.n_done
            total.n_skipped += one.n_skipped
            total.skipped += one.skipped
            total.audio_s += one.audio_s
            total.busy_s = max(total.busy_s, one.busy_s)
            total.events.update(one.events)
            for label, seconds in one.event_s.items():
                total.event_s[label] += seconds
            total.faults += one.faults
            total.failed.update(one.failed)
        return total

    def table(self) -> str:
        """Format events per class and the speed."""
        width = max([len("class"), *map(len, self.events)])
        lines = [f"{'class':{width}}  events  seconds"] if self.events else ["no events"]
        ranked = self.events.most_common()
        for label, count in ranked[:_MOST_CLASSES]:
            lines.append(f"{label:{width}}  {count:6d}  {self.event_s[label]:7.1f}")
        if others := ranked[_MOST_CLASSES:]:
            events = count_of(sum(count for _, count in others), "event")
            more = count_of(len(others), "more class", "more classes")
            lines.append(f"... and {more} with {events}, which the tables have")
        skipped = f", {self._skipped_text()}" * bool(self.n_skipped)
        lines.append(
            f"{count_of(self.n_done, 'recording')}{skipped}, {duration_text(self.audio_s)} of audio"
        )
        if self.audio_s:
            factor = self.busy_s / self.audio_s
            several = self.n_processes > 1
            by = f" with {count_of(self.n_processes, 'process', 'processes')}" * several
            lines[-1] += f" in {duration_text(self.busy_s)}{by}: real-time factor {factor:.3f}"
        return "\n".join(lines)

    def _skipped_text(self) -> str:
        whose = agree(self.n_skipped, "its files", "their files")
        names = [escape_name(one.listed or one.path.name) for one in self.skipped[:_EXAMPLES]]
        more = ", ..." if self.n_skipped > len(names) else ""
        return f"{self.n_skipped} skipped because {whose} exist ({', '.join(names)}{more})"
