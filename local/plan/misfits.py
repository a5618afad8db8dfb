"""What would stop a plan when a stage is reached, found before anything runs.

Stages that do not fit those that they name, and missing weights of encoders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from desed_task.encoders.weights_file import MINI_ATST, MINI_BEATS, find_weights
from desed_task.errors import InputError, agree
from local.checkpoints.initial_weights import REGULARISATION
from local.config import RecipeConfig
from local.plan.schema import (
    EmbeddingsStage,
    GenerateStage,
    Stage,
    TestStage,
    TrainStage,
    TuneBoxesStage,
)

# Keys of `net` that may differ from those of the training whose weights are the first ones; the
# embeddings' size follows from the encoders.
_FREE = {*REGULARISATION, "nclass", "median_filter", "embedding_size"}
_Configured = tuple[Stage, RecipeConfig]


def misfits(stages: Mapping[str, _Configured]) -> Iterator[str]:
    """What would be refused, or tested without its boxes, when a stage is reached.

    Args:
        stages: name -> keys and configuration of the stages that can be read; others may name them.
    """
    for name, (spec, config) in stages.items():
        place = f"stages.{name}"
        if isinstance(spec, TuneBoxesStage) and len(spec.checkpoints) > 1:
            yield (
                f"{place}.checkpoints: boxes are tuned for one checkpoint, and "
                f"{len(spec.checkpoints)} are named; name one (a test of several takes untuned "
                "boxes: set: {decoder.kind: boxes})"
            )
        elif isinstance(spec, TestStage) and spec.boxes in stages:
            tuned = stages[spec.boxes][0]
            if isinstance(tuned, TuneBoxesStage) and tuned.checkpoints != spec.checkpoints:
                yield _other_boxes(place, spec, tuned)
        elif isinstance(spec, TrainStage) and spec.init_from in stages:
            first, before = stages[spec.init_from]
            if isinstance(first, TrainStage):
                yield from _other_networks(f"{place}.init_from: {spec.init_from}", before, config)


def _other_boxes(place: str, spec: TestStage, tuned: TuneBoxesStage) -> str:
    return (
        f"{place}.boxes: what {spec.boxes} tunes belongs to {', '.join(tuned.checkpoints)}, and "
        f"{', '.join(spec.checkpoints)} would be tested without; name boxes of the same checkpoint"
    )


def _other_networks(place: str, before: RecipeConfig, now: RecipeConfig) -> Iterator[str]:
    """What differs in the networks of a training and of the one that gives its first weights."""
    there, here = (one.net.model_dump(mode="json", exclude=_FREE) for one in (before, now))
    for key, value in here.items():
        if there[key] != value:
            yield f"{place} has net.{key}: {there[key]!r}, here it is {value!r}; give both the same"
    if not (here["use_embeddings"] and there["use_embeddings"]):
        return
    if not (before.runs_encoders or now.runs_encoders):
        return
    encoders = [
        ", ".join(f"{one.name}{'' if one.n_blocks is None else f' ({one.n_blocks})'}" for one in of)
        for of in (before.pretrained.encoders, now.pretrained.encoders)
    ]
    if encoders[0] != encoders[1]:
        yield (
            f"{place} takes embeddings of {encoders[0]}, here they are of {encoders[1]}; give both "
            "the same encoder"
        )


def missing_weights(stages: Mapping[str, _Configured]) -> list[str]:
    """A line for each file of weights that is missing, with the stages that need it.

    Files that the plan's mini corpora contain are made when it runs.

    Args:
        stages: name -> keys and configuration of all stages.
    """
    made = {
        (Path(spec.basedir) / name).resolve()
        for spec, _ in stages.values()
        if isinstance(spec, GenerateStage)
        for name in (MINI_BEATS, MINI_ATST)
    }
    found: dict[str, list[str]] = {}
    for name, (spec, config) in stages.items():
        for one in config.pretrained.encoders if _takes_files(spec, config, stages) else ():
            try:
                find_weights(one.file, one.name)
            except InputError as error:
                if Path(one.file).resolve() not in made:
                    found.setdefault(str(error), []).append(name)
    return [
        f"{agree(len(names), 'stage', 'stages')} {', '.join(names)}: {problem}"
        for problem, names in found.items()
    ]


def _takes_files(spec: Stage, config: RecipeConfig, stages: Mapping[str, _Configured]) -> bool:
    """Whether a stage reads the files of its encoders' weights."""
    if isinstance(spec, EmbeddingsStage):
        return True
    if not isinstance(spec, TrainStage) or not config.runs_encoders:
        return False
    # Checkpoints of trainings that ran encoders contain them.
    return spec.init_from is None or not stages[spec.init_from][1].runs_encoders
