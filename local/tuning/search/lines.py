"""Lines of the search space as they are written, and what is wrong with them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from desed_task.labels import near_labels
from desed_task.postprocess.decoders import BOXES, MEDIAN, THRESHOLD_BOXES
from local.config import RecipeConfig
from local.schema.strict import StrictModel
from local.task.task import Task

TuningStage = Literal["training", "postprocessing"]
Value = int | float | str | bool | None
DIGITS = 10  # digits of a sampled number; a sum of steps has rounding errors after them
EVERY_CLASS = "*"
TUNED_SECTIONS = ("training", "scaler", "opt", "feats", "net")
DECODER_SECTION = "decoder"
# Keys of the section that are tuned, by decoder; the median filter's lengths stand in `net`.
DECODER_KEYS: dict[str, tuple[str, ...]] = {
    MEDIAN: (),
    BOXES: ("step_filter_s", "merge_abs", "merge_rel"),
    THRESHOLD_BOXES: ("threshold",),
}
# With other values of these, a trial's objective could not be compared with the others'.
NOT_TUNABLE = {
    "training.seed": "it determines which clips are held out",
    "training.weak_split": "it determines which clips are held out",
    "training.maestro_split": "it determines which clips are held out",
    "training.validation_interval": "trials are compared epoch by epoch",
    "training.obj_metric_synth_type": "trials are compared by it",
    "training.obj_metric_maestro_type": "trials are compared by it",
}


class DimensionConfig(StrictModel):
    """A line of the space as written in the file."""

    kind: Literal["float", "int", "categorical"]
    low: float | None = None
    high: float | None = None
    step: float | None = Field(default=None, gt=0)
    """Distance of neighbouring values; without it, floats take any value between the bounds."""
    log: bool = False
    """Whether to sample uniformly on a log scale."""
    choices: list[Value] | None = None


class TuningConfig(StrictModel):
    """The section `optuna` of a configuration file."""

    n_trials: int = Field(default=100, ge=1)
    training: dict[str, DimensionConfig] | None = None
    postprocessing: dict[str, DimensionConfig] | None = None


def event_classes(task: Task) -> tuple[str, ...]:
    """The classes whose events a task scores at any stage, in the order of the task."""
    parts = (task.part("val", "events"), task.part("test", "events"))
    scored = {label for part in parts if part is not None for label in part.classes}
    return tuple(label for label in task.classes if label in scored)


def is_of_decoder(path: str, decoder: str) -> bool:
    """Whether a line belongs to a decoder; mistakes belong to each, which names them."""
    section, *rest = path.split(".")
    others = [key for kind, keys in DECODER_KEYS.items() if kind != decoder for key in keys]
    if section == DECODER_SECTION:
        return rest[:1] == [] or rest[0] not in others
    return decoder == MEDIAN


def expanded(path: str, task: Task) -> list[str]:
    """The lines that a line means, which may be about every class."""
    stem, _, last = path.rpartition(".")
    # Segments are scored from median-filtered frames, whatever the decoder.
    of_decoder = stem.startswith(f"{DECODER_SECTION}.")
    labels = event_classes(task) if of_decoder else task.classes
    return [f"{stem}.{label}" for label in labels] if last == EVERY_CLASS else [path]


def path_problems(path: str, stage: TuningStage, task: Task) -> list[str]:
    """Explain why a dotted path cannot be tuned; the value itself is not checked."""
    section, _, rest = path.partition(".")
    if section == DECODER_SECTION and stage == "postprocessing":
        return _decoder_problems(*rest.partition(".")[::2], task)
    if section not in TUNED_SECTIONS:
        return [
            f"{section} is not a section that can be tuned; use one of {', '.join(TUNED_SECTIONS)}"
        ]
    if path in NOT_TUNABLE:
        return [f"cannot be tuned: {NOT_TUNABLE[path]}"]
    keys = RecipeConfig.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    key, _, label = rest.partition(".")
    if key not in keys:
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {section}.{near[0]}?" if near else f"known: {', '.join(keys)}"
        return [f"no such key in {section}; {hint}"]
    if label and key == "median_filter" and not _names_a_class(label, task.classes):
        return [f"{label!r} is not a class; * means all; {near_labels(label, task.classes)}"]
    return []


def _decoder_problems(key: str, label: str, task: Task) -> list[str]:
    known = [key for keys in DECODER_KEYS.values() for key in keys]
    if key not in known:
        return [f"no such value of a decoder that can be tuned; known: {', '.join(known)}"]
    scored = event_classes(task)
    if label in scored:
        return []
    near = near_labels(label, scored)
    if label in task.classes:
        return [f"no events of {label} are scored, so no decoder matters; {near}"]
    return [f"{label!r} is not a class; decoder.{key}.* means every class; {near}"]


def _names_a_class(name: str, classes: Sequence[str]) -> bool:
    return name in classes or (name.isdigit() and int(name) < len(classes))


def range_problems(one: DimensionConfig) -> list[str]:
    """Find all problems of the bounds, the step and the choices."""
    if one.kind == "categorical":
        if not one.choices:
            return ["a categorical value needs choices: [...]"]
        doubled = len(one.choices) != len({(type(c), c) for c in one.choices})
        return ["a choice occurs twice"] if doubled else _unused(one, ("low", "high", "step"))
    if one.low is None or one.high is None:
        return [f"{one.kind} needs low and high"]
    problems = _unused(one, ("choices",))
    if one.low >= one.high:
        problems.append(f"low ({one.low:g}) must be below high ({one.high:g})")
    elif one.step is not None and not one.log:
        problems += _step_problems(one.low, one.high, one.step)
    if one.kind == "int" and any(v is not None and v % 1 for v in (one.low, one.high, one.step)):
        problems.append("int needs whole numbers for low, high and step")
    if one.log and one.low <= 0:
        problems.append(f"with log, low ({one.low:g}) must be above 0")
    if one.log and one.step is not None:
        problems.append("log and step exclude each other; leave one of them out")
    return problems


def _unused(one: DimensionConfig, keys: tuple[str, ...]) -> list[str]:
    given = [key for key in keys if getattr(one, key) is not None]
    return [f"{one.kind} has no {', '.join(given)}; leave it out"] if given else []


def _step_problems(low: float, high: float, step: float) -> list[str]:
    steps = (high - low) / step
    if math.isclose(steps, round(steps), abs_tol=1e-6) and round(steps) >= 1:
        return []
    fitting = [low + n * step for n in (math.floor(steps), math.floor(steps) + 1) if n >= 1]
    values = " or ".join(f"{value:.{DIGITS}g}" for value in fitting)
    return [f"steps of {step:g} from {low:g} do not reach high ({high:g}); give {values}"]
