"""Read a plan file: all that is wrong with it is reported together, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from pydantic import ValidationError

from desed_task.errors import InputError, count_of
from local.cli.redaction import redact_tree
from local.config import RecipeConfig, config_of_tree, find_shipped, read_sections
from local.plan.graph import find_cycle, levels_of
from local.plan.misfits import misfits
from local.plan.schema import (
    GIVEN_ENCODERS,
    KINDS,
    NAMED_KINDS,
    OF_ENCODERS,
    WITHOUT_CONFIGURATION,
    PlanFile,
    Stage,
    TuneBoxesStage,
)
from local.schema.encoders import EncoderChoice
from local.schema.problems import validation_problems
from local.schema.yaml_files import read_yaml

PLANS: Final = ("winning.yaml", "mini_winning.yaml")
"""The supplied plan files, in the folder of configurations."""
# They name folders.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PSEUDO_LABELS = "training.pseudo_labels"


class PlannedStage(NamedTuple):
    """A stage of a plan with what it computes with.

    Attributes:
        name: of the stage.
        spec: its keys.
        overrides: `section.key=value` over the plan's configuration, later ones last.
        own: the last of them, which the stage itself has, and the command line.
        config: the configuration with them; pseudo-labels are named by their stage in it.
    """

    name: str
    spec: Stage
    overrides: tuple[str, ...]
    own: tuple[str, ...]
    config: RecipeConfig

    @property
    def inputs(self) -> tuple[str, ...]:
        """The stages that must be done before, each once."""
        return tuple(dict.fromkeys(one for named in self.spec.inputs.values() for one in named))

    @property
    def takes_embeddings(self) -> bool:
        """Whether it is given the encoders of the trainings that it names."""
        is_given = any(one.startswith("pretrained.model=") for one in self.overrides)
        return isinstance(self.spec, GIVEN_ENCODERS) and is_given


@dataclass(frozen=True)
class RecipePlan:
    """A plan whose stages can run.

    Attributes:
        name: of the file, without ending.
        path: the file.
        conf_file: configuration that all stages start from.
        sections: its values.
        jobs: stages at a time on a machine without a GPU.
        metrics: of the final table; empty for the first ones.
        stages: in an order in which they could run one by one.
        levels: the same; those of a level need only earlier levels.
    """

    name: str
    path: Path
    conf_file: Path
    sections: Mapping[str, Any]
    jobs: int
    metrics: tuple[str, ...]
    stages: Mapping[str, PlannedStage]
    levels: tuple[tuple[str, ...], ...]


def read_plan(path: str | Path, overrides: Sequence[str] = ()) -> RecipePlan:
    """Read a plan and check it, with the configurations of all stages.

    Args:
        path: the file, or the name of a supplied one, `winning` or `mini_winning`.
        overrides: entries `section.key=value` for all stages, which take precedence.

    Raises:
        InputError: all that is wrong.
    """
    found = find_shipped(path, "no such plan", PLANS)
    tree = read_yaml(found)
    if not isinstance(tree, dict) or "stages" not in tree:
        raise InputError(f"{found}: is not a plan (conf_file:, encoders:, stages: ...)")
    try:
        file = PlanFile.model_validate(tree)
    except ValidationError as error:
        problems = validation_problems(error, PlanFile)
        raise InputError.collect(problems, f"{found} cannot be used:") from None
    specs, problems = _specs(file)
    problems += _references(file, specs)
    problems += [f"metrics: {name} is not a name of a metric" for name in file.metrics if not name]
    cycle = find_cycle({name: _names(spec) for name, spec in specs.items()})
    if cycle:
        problems.append(f"stages need each other in a circle: {' -> '.join(cycle)}; break it")
    conf_file = find_shipped(_beside(file.conf_file, found))
    sections = read_sections(conf_file)
    stages, wrong = _configured(file, specs, (sections, str(conf_file)), overrides)
    wrong += misfits({name: (stage.spec, stage.config) for name, stage in stages.items()})
    if problems or wrong:
        raise InputError.collect([*problems, *wrong], f"{found} cannot be used:")
    levels = levels_of({name: _names(spec) for name, spec in specs.items()})
    ordered = {name: stages[name] for level in levels for name in level}
    return RecipePlan(
        *(found.stem, found, conf_file, sections, file.jobs, file.metrics, ordered, levels)
    )


def _beside(conf_file: str, plan: Path) -> str | Path:
    """A configuration in the current folder, or beside the plan that names it."""
    beside = plan.parent / Path(conf_file).name
    return beside if not Path(conf_file).is_file() and beside.is_file() else conf_file


def _specs(file: PlanFile) -> tuple[dict[str, Stage], list[str]]:
    """The stages that can be read, and what is wrong with the others."""
    found: dict[str, Stage] = {}
    problems = []
    for name, tree in file.stages.items():
        place = f"stages.{name}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            problems.append(
                f"{place}: a stage's name is one of its folder; use letters, digits, _, - and ."
            )
            continue
        kind = tree.get("kind") if isinstance(tree, dict) else None
        if not isinstance(kind, str) or kind not in KINDS:
            known = ", ".join(KINDS)
            told = f"{place}.kind: {kind!r}: unknown kind; known: {known}"
            problems.append(told if kind else f"{place}.kind: missing; give one of {known}")
            continue
        model = KINDS[kind]
        try:
            found[name] = model.model_validate(tree)  # type: ignore[assignment]
        except ValidationError as error:
            told = validation_problems(error, model)
            problems += [f"{place}.{one.removeprefix('configuration: ')}" for one in told]
    return found, problems


def _names(spec: Stage) -> tuple[str, ...]:
    return tuple(name for named in spec.inputs.values() for name in named)


def _references(file: PlanFile, specs: Mapping[str, Stage]) -> Iterator[str]:
    """References to what does not exist or is of another kind, and entries that nothing uses."""
    groups: dict[str, tuple[Mapping[str, Any], set[str]]] = {
        "encoders": (file.encoders, set()),
        "settings": (file.settings, set()),
    }
    for name, spec in specs.items():
        place = f"stages.{name}"
        for key, named in spec.inputs.items():
            yield from _wrong_stages(f"{place}.{key}", key, named, file.stages, specs)
        wanted = {"encoders": (spec.encoder,) if spec.encoder else (), "settings": spec.settings}
        for group, names in wanted.items():
            known, used = groups[group]
            used.update(names)
            for one in names:
                if one not in known:
                    there = ", ".join(known) or "none"
                    yield f"{place}: {one} is not one of the plan's {group}; known: {there}"
        if isinstance(spec, TuneBoxesStage):
            try:
                find_shipped(spec.space)
            except InputError as error:
                yield f"{place}.space: {error}"
        if spec.encoder and spec.kind not in OF_ENCODERS:
            yield (
                f"{place}.encoder: only {' and '.join(OF_ENCODERS)} take one; leave it out, as "
                "checkpoints know theirs"
            )
        if spec.kind in WITHOUT_CONFIGURATION:
            yield from (
                f"{place}.{key}: a stage of the kind {spec.kind} has no configuration; leave it out"
                for key in ("settings", "set")
                if getattr(spec, key)
            )
    if len(specs) == len(file.stages):
        for group, (known, used) in groups.items():
            yield from (f"{group}.{one}: no stage uses it" for one in known if one not in used)


def _wrong_stages(
    place: str,
    key: str,
    named: Sequence[str],
    written: Mapping[str, Any],
    specs: Mapping[str, Stage],
) -> Iterator[str]:
    if len(set(named)) < len(named):
        yield f"{place}: names a stage twice"
    for one in named:
        if one not in written:
            yield f"{place}: there is no stage {one}; known: {', '.join(map(str, written))}"
        elif one in specs and specs[one].kind not in NAMED_KINDS.get(key, KINDS):
            kinds = " or ".join(NAMED_KINDS[key])
            yield f"{place}: {one} is of the kind {specs[one].kind}; name one of {kinds}"


def _configured(
    file: PlanFile,
    specs: Mapping[str, Stage],
    base: tuple[dict[str, Any], str],
    overrides: Sequence[str],
) -> tuple[dict[str, PlannedStage], list[str]]:
    """The stages with their configurations, and what is wrong with those.

    Args:
        file: the plan.
        specs: its stages.
        base: the values that all start from, and their file.
        overrides: for all stages.
    """
    stages: dict[str, PlannedStage] = {}
    problems: list[str] = []
    known: dict[tuple[str, ...], RecipeConfig | str] = {}
    # Those that take the encoders of trainings come after them.
    for name, spec in sorted(specs.items(), key=lambda one: isinstance(one[1], GIVEN_ENCODERS)):
        entry = file.encoders.get(spec.encoder or "")
        shared = _dotted(file.set)
        if isinstance(spec, GIVEN_ENCODERS):
            given, wrong = encoders_of_trainings(spec, stages)
            problems += [f"stages.{name}.checkpoints: {one}" for one in wrong]
            shared += _dotted(given)
        if entry is not None:
            chosen: dict[str, Any] = {"model": entry.model or spec.encoder}
            chosen["checkpoint"] = entry.checkpoint
            chosen["n_blocks"] = entry.n_blocks
            shared += _dotted({f"pretrained.{key}": value for key, value in chosen.items()})
            shared += _dotted(entry.set)
        groups = [file.settings.get(one, {}) for one in spec.settings]
        own = (*(one for group in (*groups, spec.set) for one in _dotted(group)), *overrides)
        labels = getattr(spec, "pseudo_labels", None)
        more = () if labels is None else (f"{_PSEUDO_LABELS}={labels}",)
        all_ = (*shared, *own, *more)
        if all_ not in known:
            known[all_] = _config(deepcopy(base[0]), base[1], all_)
        config = known[all_]
        if isinstance(config, str):
            problems.append(f"stages.{name}: {config}")
        else:
            stages[name] = PlannedStage(name, spec, all_, own, config)
    return stages, problems


def encoders_of_trainings(
    spec: Stage, stages: Mapping[str, PlannedStage]
) -> tuple[dict[str, Any], list[str]]:
    """The values of `pretrained` by which a test finds the embeddings of the trainings it names.

    Checkpoints of trainings that ran their encoders contain them, and need none.

    Args:
        spec: of the test.
        stages: the trainings, as far as they can be read.

    Returns:
        Values by dotted key, empty if none are needed, and what is wrong with them.
    """
    named = [name for name in getattr(spec, "checkpoints", ()) if name in stages]
    chosen: dict[str, tuple[EncoderChoice, str]] = {}
    folders: dict[str, str] = {}
    problems = []
    for name in named:
        config = stages[name].config
        if stages[name].spec.kind != "train" or not config.reads_embeddings:
            continue
        folders[config.pretrained.extracted_embeddings_dir] = name
        for one in config.pretrained.encoders:
            other, of = chosen.setdefault(one.name, (one, name))
            if other != one:
                problems.append(
                    f"{of} and {name} take embeddings of {one.name} with other weights or blocks "
                    f"({_told(other)}, {_told(one)}), and a test takes one of each encoder; test "
                    "them in stages of their own"
                )
    if len(folders) > 1:
        problems.append(
            f"{' and '.join(folders.values())} take embeddings of different folders "
            f"({', '.join(folders)}); give them the same pretrained.extracted_embeddings_dir"
        )
    choices = [one for one, _ in chosen.values()]
    if not choices:
        return {}, problems
    given: dict[str, Any] = {
        "model": [one.name for one in choices],
        "checkpoint": [None if one.is_baselines else one.file for one in choices],
        "n_blocks": [one.n_blocks for one in choices],
        "extracted_embeddings_dir": next(iter(folders)),
    }
    for one in choices:
        if one.is_baselines:
            given["beats_checkpoint"] = one.file
    return {f"pretrained.{key}": value for key, value in given.items()}, problems


def _told(choice: EncoderChoice) -> str:
    blocks = "" if choice.n_blocks is None else f", {count_of(choice.n_blocks, 'block')}"
    return f"{choice.file}{blocks}"


def _config(tree: dict[str, Any], conf_file: str, overrides: Sequence[str]) -> RecipeConfig | str:
    """A configuration, or what is wrong with it."""
    given = [one for one in overrides if one.startswith(f"{_PSEUDO_LABELS}=")]
    if len(given) > 1:
        return f"{given[0]}: pseudo_labels of the stage names them; leave out {_PSEUDO_LABELS}"
    try:
        config = config_of_tree(tree, overrides, conf_file)
    except InputError as error:
        return " ".join(line.strip() for line in str(error).splitlines())
    tree = config.dump()["logging"]
    if redact_tree(tree) != tree:
        return (
            "logging has a password or key, and a plan writes configurations to disk; give it in "
            "the environment (docs/training.md)"
        )
    return config


def _dotted(values: Mapping[str, Any]) -> tuple[str, ...]:
    """`section.key=value` of each value, as `--set` takes them."""
    return tuple(f"{key}={flow_text(value)}" for key, value in values.items())


def flow_text(value: Any) -> str:
    """A value as YAML on one line, as `--set` takes it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def config_with(plan: RecipePlan, stage: PlannedStage, pseudo_labels: Path | None) -> RecipeConfig:
    """The configuration of a stage with the folder of its pseudo-labels."""
    if pseudo_labels is None:
        return stage.config
    more = f"{_PSEUDO_LABELS}={flow_text(str(pseudo_labels))}"
    sections = deepcopy(dict(plan.sections))
    return config_of_tree(sections, (*stage.overrides, more), str(plan.conf_file))
