"""Project the time of whole schedules from the times of their parts."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.bench import Bench, Row
from benchmarks.step import STEPS
from benchmarks.training import Real

# Published clips: synthetic validation, the held-out tenth of 1,578 weak clips, and those of 5 of
# MAESTRO's 33 training recordings, of 7,503.
VALIDATION_CLIPS = 2500 + 158 + 1137
DEVTEST_CLIPS = 1168 + 900


class Schedule(NamedTuple):
    """Amounts of work of a training."""

    n_epochs: int
    n_steps: int
    batch_clips: int
    n_validations: int
    validation_clips: int
    devtest_clips: int


PUBLISHED = Schedule(300, STEPS, 60, 30, VALIDATION_CLIPS, DEVTEST_CLIPS)


class Parts(NamedTuple):
    """Seconds of the parts of a schedule.

    Attributes:
        batch_clips: clips of the timed step; other sizes take time in proportion.
        step: a training step with Lightning.
        wait: time between two steps.
        validation_clip: loading a clip and both networks; the same for `devtest_clip`.
        validation_scoring: metrics of a validation per scored clip; the same for
            `devtest_scoring`. They are nearly proportional to the clips.
        devtest_files: figures and tables of a dev-test of any size; 0 if no real one was run.
        said: names of these rows.
        lacking: rows without a result, which count as 0.
    """

    batch_clips: int
    step: float
    wait: float
    validation_clip: float
    devtest_clip: float
    validation_scoring: float
    devtest_scoring: float
    devtest_files: float
    said: tuple[str, ...]
    lacking: tuple[str, ...] = ()

    def of(self, schedule: Schedule) -> dict[str, float]:
        """Return the seconds of training, of all validations and of the dev-test."""
        a_validation = self.validation_clip + self.validation_scoring
        batches = schedule.n_epochs * schedule.n_steps * schedule.batch_clips / self.batch_clips
        return {
            "training": batches * (self.step + self.wait),
            "validation": schedule.n_validations * schedule.validation_clips * a_validation,
            "devtest": schedule.devtest_clips * (self.devtest_clip + self.devtest_scoring)
            + self.devtest_files,
        }


def parts_of(bench: Bench) -> Parts | str:
    """Return the parts from the timed rows, or what is missing for a projection."""
    store = "packed-gpu" if bench.device.type == "cuda" else "packed-ram"
    choices = {
        "step": ("epoch/step", "step/whole"),
        "wait": ("epoch/wait", f"loading/batch/{store if bench.options.packed else 'files'}"),
        "validation": ("validation/network",),
        "devtest": ("devtest/network",),
        "validation scoring": ("validation/scoring",),
        "devtest scoring": ("devtest/scoring",),
    }
    chosen = {
        what: next((name for name in names if bench.seconds(name) is not None), None)
        for what, names in choices.items()
    }
    lacking = tuple(choices[what][0] for what, name in chosen.items() if name is None)
    if chosen["step"] is None or chosen["wait"] is None:
        return f"lacks {', '.join(lacking)}"
    rows = {what: bench.rows[name] for what, name in chosen.items() if name is not None}
    a_row = rows["wait"].seconds / rows["wait"].clips
    each = dict.fromkeys(choices, 0.0)
    each |= {what: row.seconds / row.clips for what, row in rows.items()}
    parts = Parts(
        rows["step"].clips,
        rows["step"].seconds,
        rows["wait"].seconds,
        each["validation"] + a_row,
        each["devtest"] + a_row,
        each["validation scoring"],
        each["devtest scoring"],
        0.0,
        tuple(row.name for row in rows.values()),
        lacking,
    )
    return _with_files(parts, bench.rows.get("epoch/devtest"))


def _with_files(parts: Parts, devtest: Row | None) -> Parts:
    """Add the time of a real dev-test beyond networks and metrics to the parts."""
    if devtest is None or devtest.skipped:
        return parts
    foretold = devtest.clips * (parts.devtest_clip + parts.devtest_scoring)
    return parts._replace(
        devtest_files=max(devtest.seconds - foretold, 0.0), said=(*parts.said, devtest.name)
    )


def published(parts: Parts) -> dict[str, Any]:
    """Project the published schedule."""
    seconds = parts.of(PUBLISHED)
    return {
        "schedule": PUBLISHED._asdict(),
        "seconds": {**seconds, "whole": sum(seconds.values())},
        "from": list(parts.said),
        "lacking": list(parts.lacking),
    }


def compared(parts: Parts, real: Real) -> dict[str, Any]:
    """Compare the time of a real training with its projection."""
    clips = real.validation_clips, real.devtest_clips
    schedule = Schedule(real.n_epochs, real.n_steps, parts.batch_clips, 1, *clips)
    foretold = parts.of(schedule)
    took = {
        "training": real.training_s,
        "validation": real.validation_s,
        "devtest": real.devtest_s,
    }
    reached = [phase for phase in took if took[phase] and foretold[phase]]
    ratio = {phase: took[phase] / foretold[phase] for phase in reached}
    ratio["whole"] = sum(map(took.get, reached)) / sum(map(foretold.get, reached))
    return {
        "schedule": schedule._asdict(),
        "foretold_s": foretold,
        "took_s": {**took, "with start and end": real.whole_s},
        "ratio": ratio,
    }
