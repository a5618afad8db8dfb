"""The search space: which values of the configuration are tuned, and their bounds.

    space = Space.load("confs/optuna.yaml", "training")
    overrides = space.sample(trial)             # {"opt.lr": 0.0011, "net.n_RNN_cell": 192, ...}
    tree = replace_values(overrides, config.dump())      # a trial's configuration

It is the section `optuna` of a configuration file, one line per value, by its dotted path. An entry
of a list is named by its index or its class; `*` stands for all classes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from desed_task.errors import InputError
from desed_task.postprocess.decoders import DEFAULTS, MEDIAN
from local.config import (
    SHIPPED,
    TASK_SECTION,
    TUNING_SECTION,
    RecipeConfig,
    check_config,
    find_shipped,
    load_config,
)
from local.schema.problems import validation_problems
from local.schema.yaml_files import read_yaml
from local.task.reading import listed_classes
from local.task.task import Task
from local.tuning.search.lines import (
    DECODER_SECTION,
    DIGITS,
    DimensionConfig,
    TuningConfig,
    TuningStage,
    Value,
    expanded,
    is_of_decoder,
    path_problems,
    range_problems,
)

DEFAULT_FILE = SHIPPED / "optuna.yaml"


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
    def load(
        cls,
        path: str | Path,
        stage: TuningStage,
        decoder: str = MEDIAN,
        task: Task | None = None,
    ) -> Space:
        """Load the space of a configuration file; without one, that of confs/optuna.yaml.

        Args:
            path: YAML file with a section `optuna`.
            stage: training, or postprocessing (decoders).
            decoder: kind of the decoder whose lines of the postprocessing are taken.
            task: whose classes are meant; None for that of confs/optuna.yaml.

        Raises:
            InputError: with all mistakes at once.
        """
        tuned = read_tuning_config(path)
        ranges = getattr(tuned, stage)
        if ranges and stage == "postprocessing":
            ranges = {k: v for k, v in ranges.items() if is_of_decoder(k, decoder)} or None
        if ranges is None and Path(path).resolve() != DEFAULT_FILE:
            return cls.load(DEFAULT_FILE, stage, decoder, task)
        if not ranges:
            raise InputError(
                f"{path}: {TUNING_SECTION}.{stage} names nothing to tune; give it a value"
            )
        task = task or load_config(DEFAULT_FILE).detection_task
        origin, problems = f"{path}: {TUNING_SECTION}.{stage}", []
        dimensions = []
        for name, one in ranges.items():
            for dotted in expanded(name, task):
                found = [*path_problems(dotted, stage, task), *range_problems(one)]
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
        problems, alike = [], set()
        for dimension in self.dimensions:
            stem = ".".join(dimension.path.split(".", 2)[:2])
            if (stem, dimension.ends) in alike:
                continue  # Hundreds of classes may have the same bounds.
            alike.add((stem, dimension.ends))
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
    classes = listed_classes(tree.get(TASK_SECTION))
    for path, value in overrides.items():
        *parts, last = _parts(path)
        branch: Any = changed
        if len(parts) > 1 and parts[0] == DECODER_SECTION:
            _name_classes(changed[DECODER_SECTION], parts[1], last, classes)
        try:
            for part in parts:
                branch = branch[_key(branch, part, classes)]
            key = _key(branch, last, classes)
            if isinstance(branch, dict) and key not in branch:
                raise KeyError(key)
            branch[key] = value
        except (KeyError, IndexError, TypeError, ValueError):
            raise InputError(f"{path}: no such value in the configuration") from None
    return changed


def _parts(path: str) -> list[str]:
    """The keys of a dotted path, whose last one may be a class with dots in its name."""
    section, _, rest = path.partition(".")
    key, dot, label = rest.partition(".")
    by_class = section == DECODER_SECTION or key == "median_filter"
    return [section, key, label] if dot and by_class else path.split(".")


def _name_classes(section: dict[str, Any], key: str, label: str, classes: Sequence[str]) -> None:
    """Let a value of a decoder be one per class, of which `label` is about to be changed."""
    value = section.get(key)
    if not isinstance(value, dict):
        # The default is that of classes that are not named.
        section[key] = {} if value == DEFAULTS.get(key) else dict.fromkeys(classes, value)
    section[key].setdefault(label, value)


def _key(branch: Any, part: str, classes: Sequence[str]) -> Any:
    if isinstance(branch, list):
        return classes.index(part) if part in classes else int(part)
    return part


def _dimension(path: str, one: DimensionConfig) -> Dimension:
    if one.kind == "categorical":
        return Dimension(path, one.kind, choices=tuple(one.choices or ()))
    assert one.low is not None and one.high is not None
    step = one.step or (1 if one.kind == "int" else None)
    return Dimension(path, one.kind, one.low, one.high, step, one.log)
