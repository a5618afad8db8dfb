"""The search space: which values of the configuration are tuned, and their bounds.

    space = Space.load("confs/optuna.yaml", "training")
    overrides = space.sample(trial)             # {"opt.lr": 0.0011, "net.n_RNN_cell": 192, ...}
    tree = replace_values(overrides, config.dump())      # a trial's configuration

It is the section `optuna` of a configuration file, one line per value, by its dotted path. An entry
of a list is named by its index or its class; `*` stands for all classes.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field, ValidationError

from desed_task.errors import InputError
from desed_task.postprocess.decoders import BOXES, DEFAULTS, MEDIAN, THRESHOLD_BOXES
from local.classes_dict import CLASSES, DESED_CLASSES
from local.config import (
    SHIPPED,
    TUNING_SECTION,
    RecipeConfig,
    check_config,
    find_shipped,
    read_yaml,
    validation_problems,
)
from local.schema.strict import StrictModel

TuningStage = Literal["training", "postprocessing"]
Value = int | float | str | bool | None
DEFAULT_FILE = SHIPPED / "optuna.yaml"
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
DIGITS = 10  # digits of a sampled number; a sum of steps has rounding errors after them


class Sampler(Protocol):
    """The methods of an Optuna trial that suggest values."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        """A number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """An integer."""

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        """One of several values."""


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


@dataclass(frozen=True)
class Dimension:
    """One tuned value.

    Attributes:
        path: dotted path, `net.dropout` or `net.median_filter.Speech`.
        kind: "float", "int" or "categorical".
        low: smallest value of a number.
        high: largest value, a whole number of steps from `low`.
        step: distance of neighbouring values; None for any float.
        log: whether to sample uniformly on a log scale.
        choices: choices of a categorical value.
    """

    path: str
    kind: Literal["float", "int", "categorical"]
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()

    @property
    def ends(self) -> tuple[Value, ...]:
        """The smallest and the largest value; all choices of a categorical one."""
        if self.kind == "categorical":
            return self.choices
        return (self.clean(self.low), self.clean(self.high))

    def steps(self) -> list[Value]:
        """All values of a number.

        Raises:
            InputError: there is no end of them.
        """
        step = self.step or (1 if self.kind == "int" else None)
        if step is None or self.log:
            raise InputError(
                f"{self.path}: has no step, so that not all its values can be tried; give it one, "
                "or choices"
            )
        n_steps = round((self.high - self.low) / step)
        return [self.clean(self.low + n * step) for n in range(n_steps + 1)]

    def sample(self, trial: Sampler) -> Value:
        """Sample the value from `trial`."""
        if self.kind == "categorical":
            return self.clean(trial.suggest_categorical(self.path, list(self.choices)))
        if self.kind == "int":
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return trial.suggest_int(self.path, low, high, step=step, log=self.log)
        drawn = trial.suggest_float(self.path, self.low, self.high, step=self.step, log=self.log)
        return self.clean(drawn)

    def clean(self, value: Any) -> Value:
        """Convert `value` for the configuration, without the rounding errors of a sum of steps."""
        if self.kind == "int":
            return int(value)
        return float(f"{value:.{DIGITS}g}") if self.kind == "float" else value


@dataclass(frozen=True)
class Space:
    """The values that are tuned together."""

    dimensions: tuple[Dimension, ...]

    @classmethod
    def load(cls, path: str | Path, stage: TuningStage, decoder: str = MEDIAN) -> Space:
        """Load the space of a configuration file; without one, that of confs/optuna.yaml.

        Args:
            path: YAML file with a section `optuna`.
            stage: training, or postprocessing (decoders).
            decoder: kind of the decoder whose lines of the postprocessing are taken.

        Raises:
            InputError: with all mistakes at once.
        """
        tuned = read_tuning_config(path)
        ranges = getattr(tuned, stage)
        if ranges and stage == "postprocessing":
            ranges = {k: v for k, v in ranges.items() if _is_of(k, decoder)} or None
        if ranges is None and Path(path).resolve() != DEFAULT_FILE:
            return cls.load(DEFAULT_FILE, stage, decoder)
        if not ranges:
            raise InputError(
                f"{path}: {TUNING_SECTION}.{stage} names nothing to tune; give it a value"
            )
        origin, problems = f"{path}: {TUNING_SECTION}.{stage}", []
        dimensions = []
        for name, one in ranges.items():
            for dotted in _expanded(name):
                found = [*_path_problems(dotted, stage), *_range_problems(one)]
                problems += [f"{name}: {problem}" for problem in found]
                if not found:
                    dimensions.append(_dimension(dotted, one))
        if problems:
            # A mistake in all classes is reported once.
            raise InputError.collect(list(dict.fromkeys(problems)), f"{origin} cannot be used:")
        return cls(tuple(dimensions))

    def sample(self, trial: Sampler) -> dict[str, Value]:
        """Sample dotted path -> value from `trial`."""
        return {dimension.path: dimension.sample(trial) for dimension in self.dimensions}

    def overrides(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """Return dotted path -> value of a trial's stored parameters."""
        return {d.path: d.clean(params[d.path]) for d in self.dimensions if d.path in params}

    def check(self, config: RecipeConfig, origin: str) -> None:
        """Refuse a space with values that the configuration rejects.

        Args:
            config: configuration to apply the values to.
            origin: the space's file, for messages.

        Raises:
            InputError: with every value that is invalid by itself.
        """
        problems = []
        for dimension in self.dimensions:
            for value in dimension.ends:
                try:
                    check_config(replace_values({dimension.path: value}, config.dump()), "")
                except InputError as error:
                    reasons = [line.strip(" -") for line in str(error).splitlines()[1:]]
                    problems.append(f"{dimension.path} = {value}: {'; '.join(reasons)}")
        if problems:
            heading = f"{origin}: the configuration rejects values of the space:"
            raise InputError.collect(problems, heading)

    def describe(self) -> dict[str, Any]:
        """Plain values that identify the space."""
        return {
            d.path: [d.kind, d.low, d.high, d.step, d.log, list(d.choices)] for d in self.dimensions
        }


def read_tuning_config(path: str | Path) -> TuningConfig:
    """Read the section `optuna` of a configuration file; its defaults if there is none.

    Raises:
        InputError: with all mistakes of the section.
    """
    tree = read_yaml(find_shipped(path))
    section = tree.get(TUNING_SECTION) if isinstance(tree, dict) else None
    try:
        return TuningConfig.model_validate({} if section is None else section)
    except ValidationError as error:
        problems = [f"{TUNING_SECTION}.{text}" for text in validation_problems(error, TuningConfig)]
        raise InputError.collect(problems, f"{path} cannot be used:") from None


def replace_values(overrides: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a configuration's tree with other values at dotted paths.

    Args:
        overrides: dotted path -> value.
        tree: sections of keys, as returned by `RecipeConfig.dump`.

    Raises:
        InputError: for a path that does not exist.
    """
    changed = copy.deepcopy(dict(tree))
    for path, value in overrides.items():
        *parts, last = path.split(".")
        branch: Any = changed
        if len(parts) > 1 and parts[0] == DECODER_SECTION:
            _name_classes(changed[DECODER_SECTION], parts[1], last)
        try:
            for part in parts:
                branch = branch[_key(branch, part)]
            key = _key(branch, last)
            if isinstance(branch, dict) and key not in branch:
                raise KeyError(key)
            branch[key] = value
        except (KeyError, IndexError, TypeError, ValueError):
            raise InputError(f"{path}: no such value in the configuration") from None
    return changed


def _name_classes(section: dict[str, Any], key: str, label: str) -> None:
    """Let a value of a decoder be one per class, of which `label` is about to be changed."""
    value = section.get(key)
    if not isinstance(value, dict):
        # The default is that of classes that are not named.
        section[key] = {} if value == DEFAULTS.get(key) else dict.fromkeys(CLASSES, value)
    section[key].setdefault(label, value)


def _key(branch: Any, part: str) -> Any:
    if isinstance(branch, list):
        return CLASSES.index(part) if part in CLASSES else int(part)
    return part


def _is_of(path: str, decoder: str) -> bool:
    """Whether a line belongs to a decoder; mistakes belong to each, which names them."""
    section, *rest = path.split(".")
    others = [key for kind, keys in DECODER_KEYS.items() if kind != decoder for key in keys]
    if section == DECODER_SECTION:
        return rest[:1] == [] or rest[0] not in others
    return decoder == MEDIAN


def _expanded(path: str) -> list[str]:
    stem, _, last = path.rpartition(".")
    # Segments of the other classes are scored from median-filtered frames, whatever the decoder.
    labels = DESED_CLASSES if stem.startswith(f"{DECODER_SECTION}.") else CLASSES
    return [f"{stem}.{label}" for label in labels] if last == EVERY_CLASS else [path]


def _dimension(path: str, one: DimensionConfig) -> Dimension:
    if one.kind == "categorical":
        return Dimension(path, one.kind, choices=tuple(one.choices or ()))
    assert one.low is not None and one.high is not None
    step = one.step or (1 if one.kind == "int" else None)
    return Dimension(path, one.kind, one.low, one.high, step, one.log)


def _path_problems(path: str, stage: TuningStage) -> list[str]:
    """Explain why a dotted path cannot be tuned; the value itself is not checked."""
    section, _, rest = path.partition(".")
    if section == DECODER_SECTION and stage == "postprocessing":
        return _decoder_problems(*rest.partition(".")[::2])
    if section not in TUNED_SECTIONS:
        return [
            f"{section} is not a section that can be tuned; use one of {', '.join(TUNED_SECTIONS)}"
        ]
    if path in NOT_TUNABLE:
        return [f"cannot be tuned: {NOT_TUNABLE[path]}"]
    keys = RecipeConfig.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    key, *entry = rest.split(".")
    if key not in keys:
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {section}.{near[0]}?" if near else f"known: {', '.join(keys)}"
        return [f"no such key in {section}; {hint}"]
    if entry and key == "median_filter" and not _names_a_class(entry):
        return [f"{'.'.join(entry)!r} is not a class; use one of {', '.join(CLASSES)}, or *"]
    return []


def _decoder_problems(key: str, label: str) -> list[str]:
    known = [key for keys in DECODER_KEYS.values() for key in keys]
    if key not in known:
        return [f"no such value of a decoder that can be tuned; known: {', '.join(known)}"]
    if label not in DESED_CLASSES:
        classes = f"one of {', '.join(DESED_CLASSES)}, or *"
        if label in CLASSES:
            return [f"{label} is scored in segments, which no decoder changes; use {classes}"]
        return [f"{label!r} is not a class; use decoder.{key}. with {classes}"]
    return []


def _names_a_class(entry: list[str]) -> bool:
    (name, *more) = entry
    return not more and (name in CLASSES or (name.isdigit() and int(name) < len(CLASSES)))


def _range_problems(one: DimensionConfig) -> list[str]:
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
