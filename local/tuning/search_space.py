"""The search space: which values of the configuration are tuned, and between which bounds.

    space = Space.load("confs/optuna.yaml", "training")
    overrides = space.sample(trial)             # {"opt.lr": 0.0011, "net.n_RNN_cell": 192, ...}
    tree = apply(overrides, config.dump())      # what a trial is made from

It is data: the section `optuna` of a configuration file, one line a value, by its dotted path. Of a
list, an entry is named by its index, or the class it belongs to; `*` is every class.
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
from local.classes_dict import CLASSES
from local.config import TUNING_SECTION, RecipeConfig, check_config, read_yaml, validation_problems
from local.config_schema import StrictModel

TuningStage = Literal["training", "postprocessing"]
Value = int | float | str | bool | None
DEFAULT_FILE = Path(__file__).resolve().parents[2] / "confs" / "optuna.yaml"
EVERY_CLASS = "*"
TUNED_SECTIONS = ("training", "scaler", "opt", "feats", "net")
# With another value of these, a trial would be measured by another yardstick than its siblings.
NOT_TUNABLE = {
    "training.seed": "it draws which clips are held out",
    "training.weak_split": "it says which clips are held out",
    "training.maestro_split": "it says which clips are held out",
    "training.validation_interval": "trials are compared epoch by epoch",
    "training.obj_metric_synth_type": "trials are compared by it",
    "training.obj_metric_maestro_type": "trials are compared by it",
}
DIGITS = 10  # of a sampled number; what a sum of steps adds behind them is rounding


class Sampler(Protocol):
    """What of an Optuna trial draws values."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        """A number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number."""

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        """One of several values."""


class DimensionConfig(StrictModel):
    """A line of the space as the file has it."""

    kind: Literal["float", "int", "categorical"]
    low: float | None = None
    high: float | None = None
    step: float | None = Field(default=None, gt=0)
    """From one value to the next; of floats, none means any value between the bounds."""
    log: bool = False
    """Draw the logarithm evenly."""
    choices: list[Value] | None = None


class TuningConfig(StrictModel):
    """The section `optuna` of a configuration file."""

    n_trials: int = Field(default=100, ge=1)
    training: dict[str, DimensionConfig] | None = None
    postprocessing: dict[str, DimensionConfig] | None = None


@dataclass(frozen=True)
class Dimension:
    """One value that is tuned.

    Attributes:
        path: dotted, `net.dropout` or `net.median_filter.Speech`.
        kind: float, int or categorical.
        low: smallest value of a number.
        high: largest value, which the steps from `low` reach.
        step: between neighbouring values; None for any float.
        log: whether the logarithm is drawn evenly.
        choices: of a categorical one.
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
        """The outermost values; of a categorical one, all of them."""
        if self.kind == "categorical":
            return self.choices
        return (self.clean(self.low), self.clean(self.high))

    def sample(self, trial: Sampler) -> Value:
        """The value that `trial` draws."""
        if self.kind == "categorical":
            return self.clean(trial.suggest_categorical(self.path, list(self.choices)))
        if self.kind == "int":
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return trial.suggest_int(self.path, low, high, step=step, log=self.log)
        drawn = trial.suggest_float(self.path, self.low, self.high, step=self.step, log=self.log)
        return self.clean(drawn)

    def clean(self, value: Any) -> Value:
        """`value` as the configuration has it, without the rounding of a sum of steps."""
        if self.kind == "int":
            return int(value)
        return float(f"{value:.{DIGITS}g}") if self.kind == "float" else value


@dataclass(frozen=True)
class Space:
    """All values that are tuned together."""

    dimensions: tuple[Dimension, ...]

    @classmethod
    def load(cls, path: str | Path, stage: TuningStage) -> Space:
        """The space of a configuration file; that of confs/optuna.yaml where it has none.

        Args:
            path: of a YAML file with a section `optuna`.
            stage: training, or postprocessing (the median filters).

        Raises:
            InputError: with every mistake at once.
        """
        tuned = read_tuning_config(path)
        ranges = getattr(tuned, stage)
        if ranges is None and Path(path).resolve() != DEFAULT_FILE:
            return cls.load(DEFAULT_FILE, stage)
        if not ranges:
            raise InputError(
                f"{path}: {TUNING_SECTION}.{stage} names nothing to tune; give it a value"
            )
        origin, problems = f"{path}: {TUNING_SECTION}.{stage}", []
        dimensions = []
        for name, one in ranges.items():
            for dotted in _expanded(name):
                found = [*_path_problems(dotted), *_range_problems(one)]
                problems += [f"{name}: {problem}" for problem in found]
                if not found:
                    dimensions.append(_dimension(dotted, one))
        if problems:
            # What is wrong with every class is said once.
            raise InputError.collect(list(dict.fromkeys(problems)), f"{origin} cannot be used:")
        return cls(tuple(dimensions))

    def sample(self, trial: Sampler) -> dict[str, Value]:
        """Dotted path -> value, as `trial` draws them."""
        return {dimension.path: dimension.sample(trial) for dimension in self.dimensions}

    def overrides(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """Dotted path -> value of a trial's stored parameters."""
        return {d.path: d.clean(params[d.path]) for d in self.dimensions if d.path in params}

    def check(self, config: RecipeConfig, origin: str) -> None:
        """Refuse a space with values that the configuration does not take.

        Args:
            config: what the values are put into.
            origin: where the space comes from.

        Raises:
            InputError: with every value that is refused by itself.
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
            heading = f"{origin}: the configuration does not take values of the space:"
            raise InputError.collect(problems, heading)

    def describe(self) -> dict[str, Any]:
        """Plain values that tell one space from another."""
        return {
            d.path: [d.kind, d.low, d.high, d.step, d.log, list(d.choices)] for d in self.dimensions
        }


def read_tuning_config(path: str | Path) -> TuningConfig:
    """The section `optuna` of a configuration file; its defaults where there is none.

    Raises:
        InputError: with every mistake of the section.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; see confs/optuna.yaml")
    tree = read_yaml(Path(path))
    section = tree.get(TUNING_SECTION) if isinstance(tree, dict) else None
    try:
        return TuningConfig.model_validate({} if section is None else section)
    except ValidationError as error:
        problems = [f"{TUNING_SECTION}.{text}" for text in validation_problems(error, TuningConfig)]
        raise InputError.collect(problems, f"{path} cannot be used:") from None


def replace_values(overrides: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration's tree with other values at dotted paths.

    Args:
        overrides: dotted path -> value.
        tree: sections of keys, as `RecipeConfig.dump` gives them.

    Raises:
        InputError: for a path that leads nowhere.
    """
    changed = copy.deepcopy(dict(tree))
    for path, value in overrides.items():
        *parts, last = path.split(".")
        branch: Any = changed
        try:
            for part in parts:
                branch = branch[_key(branch, part)]
            key = _key(branch, last)
            if isinstance(branch, dict) and key not in branch:
                raise KeyError(key)
            branch[key] = value
        except (KeyError, IndexError, TypeError, ValueError):
            raise InputError(f"{path}: there is no such value in the configuration") from None
    return changed


def _key(branch: Any, part: str) -> Any:
    if isinstance(branch, list):
        return CLASSES.index(part) if part in CLASSES else int(part)
    return part


def _expanded(path: str) -> list[str]:
    stem, _, last = path.rpartition(".")
    return [f"{stem}.{label}" for label in CLASSES] if last == EVERY_CLASS else [path]


def _dimension(path: str, one: DimensionConfig) -> Dimension:
    if one.kind == "categorical":
        return Dimension(path, one.kind, choices=tuple(one.choices or ()))
    assert one.low is not None and one.high is not None
    step = one.step or (1 if one.kind == "int" else None)
    return Dimension(path, one.kind, one.low, one.high, step, one.log)


def _path_problems(path: str) -> list[str]:
    """Why a dotted path is nothing that can be tuned; the value itself is not looked at."""
    section, _, rest = path.partition(".")
    if section not in TUNED_SECTIONS:
        return [f"{section} is no section that can be tuned; take {', '.join(TUNED_SECTIONS)}"]
    if path in NOT_TUNABLE:
        return [f"cannot be tuned: {NOT_TUNABLE[path]}"]
    keys = RecipeConfig.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    key, *entry = rest.split(".")
    if key not in keys:
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {section}.{near[0]}?" if near else f"known: {', '.join(keys)}"
        return [f"no such key in {section}; {hint}"]
    if entry and key == "median_filter" and not _names_a_class(entry):
        return [f"{'.'.join(entry)!r} is no class; take one of {', '.join(CLASSES)}, or *"]
    return []


def _names_a_class(entry: list[str]) -> bool:
    (name, *more) = entry
    return not more and (name in CLASSES or (name.isdigit() and int(name) < len(CLASSES)))


def _range_problems(one: DimensionConfig) -> list[str]:
    """Everything that is wrong with the bounds, the step or the choices."""
    if one.kind == "categorical":
        if not one.choices:
            return ["a categorical value wants choices: [...]"]
        doubled = len(one.choices) != len({(type(c), c) for c in one.choices})
        return ["a choice is there twice"] if doubled else _unused(one, ("low", "high", "step"))
    if one.low is None or one.high is None:
        return [f"{one.kind} wants low and high"]
    problems = _unused(one, ("choices",))
    if one.low >= one.high:
        problems.append(f"low ({one.low:g}) must be below high ({one.high:g})")
    elif one.step is not None and not one.log:
        problems += _step_problems(one.low, one.high, one.step)
    if one.kind == "int" and any(v is not None and v % 1 for v in (one.low, one.high, one.step)):
        problems.append("int wants whole numbers for low, high and step")
    if one.log and one.low <= 0:
        problems.append(f"with log, low ({one.low:g}) must be above 0")
    if one.log and one.step is not None:
        problems.append("log and step do not go together; leave one of them out")
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
