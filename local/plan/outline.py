"""What a plan would do: its stages, what is done, expected hours and disk."""

from __future__ import annotations

from collections.abc import Sequence

from desed_task.errors import count_of, free_bytes
from local.plan.folder import DONE_FILE, PlanFolder, StageState
from local.plan.reading import PlannedStage
from local.plan.stages.estimates import Estimate, estimate_of
from local.tuning.workers.device_slots import DeviceSlot


def outline_of(folder: PlanFolder, slots: Sequence[DeviceSlot]) -> list[str]:
    """Lines about each stage, by level, and their sums; nothing is written.

    Args:
        folder: of the plan, which need not exist.
        slots: its devices.
    """
    done: dict[str, StageState] = {}
    rows, left = [], []
    for number, level in enumerate(folder.plan.levels, 1):
        for name in level:
            stage = folder.plan.stages[name]
            told, estimate = _told(folder, stage, done, slots[0])
            needed = _hours(estimate), _size(estimate)
            rows.append((str(number), name, stage.spec.kind, *needed, told))
            if name not in done:
                left.append(estimate)
    head = ("level", "stage", "kind", "hours", "disk", "state")
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head) - 1)]
    lines = [_line(row, widths) for row in [head, *rows]]
    return [*lines, "", *_sums(folder, left, slots)]


def _told(
    folder: PlanFolder, stage: PlannedStage, done: dict[str, StageState], slot: DeviceSlot
) -> tuple[str, Estimate]:
    """What happens to a stage, in words; it is added to `done` if nothing does."""
    parent = folder.path / stage.name
    waits = [name for name in stage.inputs if name not in done]
    if waits:
        before = any(parent.glob(f"*/{DONE_FILE}"))
        told = f"after {', '.join(waits)}{'; done before with what these were' if before else ''}"
        return told, estimate_of(stage, parent, slot)
    state = folder.state(stage, done)
    if state.outputs is not None:
        done[stage.name] = state
        return "done", estimate_of(stage, parent, slot)
    told = "resumes" if state.begun else "runs"
    if state.reason:
        told = f"runs again, as {state.reason}"
    return told, estimate_of(stage, parent, slot)


def _sums(folder: PlanFolder, left: Sequence[Estimate], slots: Sequence[DeviceSlot]) -> list[str]:
    if not left:
        return ["all stages are done"]
    seconds = [one.seconds for one in left if one.seconds is not None]
    size = sum(one.bytes or 0.0 for one in left)
    several = f" ({count_of(len(slots), 'device')} at a time)" if len(slots) > 1 else ""
    hours = f"{sum(seconds) / 3600:.1f} h of a device{several} and " if seconds else ""
    lines = [
        f"{count_of(len(left), 'stage')} to run: {hours}{size / 1e9:.1f} GB of disk, where "
        f"{free_bytes(folder.path) / 1e9:.1f} GB are free"
    ]
    if unknown := len(left) - len(seconds):
        lines.append(
            f"not known: the hours of {count_of(unknown, 'stage')}, which take minutes or whose "
            "clips are not on disk"
        )
    if any(not one.measured and one.seconds is not None for one in left):
        lines.append(
            "hours are those of stages that have run before; those with ~ are projected for "
            f"{_projected_for(slots[0])} from the rates of docs/speed.md, without validations and "
            "tests, and not measured on this machine"
        )
    if any(one.published for one in left):
        lines.append("not all clips are on disk: where none are, the published numbers are taken")
    return lines


def _projected_for(slot: DeviceSlot) -> str:
    """The device whose rates are taken in place of one of this machine."""
    if slot.gpu is not None:
        return "an NVIDIA H200"
    return f"{count_of(slot.threads, 'thread')} of an AMD EPYC"


def _hours(estimate: Estimate) -> str:
    if estimate.seconds is None:
        return "?"
    return f"{'' if estimate.measured else '~'}{estimate.seconds / 3600:.2f}"


def _size(estimate: Estimate) -> str:
    return "?" if estimate.bytes is None else f"{estimate.bytes / 1e9:.2f} GB"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
    return "  ".join([*cells, row[-1]])
