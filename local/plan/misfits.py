"""Stages of a plan that do not fit the stages they name: told before hours of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from local.checkpoints.initial_weights import REGULARISATION
from local.config import RecipeConfig
from local.plan.schema import Stage, TestStage, TrainStage, TuneBoxesStage

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
