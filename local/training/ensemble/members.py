"""The checkpoints of an ensemble: what configuration each is used with, and whether they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import DetectorSpec
from desed_task.checkpoints.state_names import is_bare
from desed_task.errors import InputError, count_of
from local.checkpoints.encoders.choice import with_encoders_of
from local.checkpoints.restore import known_hyperparameters
from local.config import TASK_SECTION, RecipeConfig, check_config
from local.data.corpus_checks import examples
from local.data.datamodule import SedDataModule
from local.scoring.conditions import decoder_settings
from local.training.macs import count_macs

# What embeddings are read from, which checkpoints of other encoders have elsewhere.
_OWN_SECTION = "pretrained"


@dataclass(frozen=True)
class EnsembleMember:
    """A checkpoint with its networks and the data that they score.

    Attributes:
        path: the file.
        config: its configuration.
        data: its data, with embeddings of its encoders.
        module: its networks (`SEDTask4`).
    """

    path: Path
    config: RecipeConfig
    data: SedDataModule
    module: Any

    def facts(self) -> dict[str, Any]:
        """What run.yaml says of it (`TestedFiles`)."""
        network = count_macs(
            self.module.sed_student,
            self.config,
            readers=self.data.embedding_readers,
            encoder=self.module.encoder_student,
        )
        used = self.config.pretrained.encoders if self.config.net.use_embeddings else ()
        return {
            "seed": self.config.training.seed,
            "training_revision": self.module.training_revision,
            "encoders": [
                {"name": one.name, "file": one.file, "n_blocks": one.n_blocks} for one in used
            ],
            "network": network._asdict(),
        }


def config_for_member(here: RecipeConfig, path: str, *, own_stores: bool) -> RecipeConfig:
    """The configuration that a member of an ensemble is opened with.

    Args:
        here: of the command.
        path: the checkpoint.
        own_stores: whether its embeddings and weights are where its training had them, as no
            configuration was named.

    Returns:
        `here`, with that if the checkpoint says it; and with the task of its training if that has
        the same classes in another order.
    """
    content = load_safely(Path(path))
    if is_bare(content) or not isinstance(content.get("hyper_parameters"), Mapping):
        return here
    classes = DetectorSpec.of_checkpoint(content, path).classes
    stored = content["hyper_parameters"]
    reordered = classes != here.detection_task.classes
    reordered = reordered and {*classes} == {*here.detection_task.classes}
    if not (reordered or own_stores):
        return here
    known, tree = known_hyperparameters(stored, path), here.dump()
    if own_stores and known[_OWN_SECTION]:
        tree[_OWN_SECTION] = with_encoders_of(tree[_OWN_SECTION], known[_OWN_SECTION])
    if reordered and known[TASK_SECTION]:
        tree[TASK_SECTION] = known[TASK_SECTION]
        tree["training"]["batch_size"] = known["training"].get("batch_size")
        tree["net"]["median_filter"] = known["net"].get("median_filter")
    return check_config(tree, f"hyperparameters of {path}")


def check_members(members: Sequence[EnsembleMember], stage: str) -> None:
    """Refuse checkpoints whose scores cannot be averaged, or that are decoded differently.

    Args:
        members: at least two.
        stage: "test" or "predict".

    Raises:
        InputError: naming all differences from the first one.
    """
    first, *others = members
    problems = [
        f"{other.path}: {problem}"
        for other in others
        for problem in _differences(first, other, stage)
    ]
    if problems:
        raise InputError.collect(problems, "scores of these checkpoints cannot be averaged:")


def _differences(first: EnsembleMember, other: EnsembleMember, stage: str) -> Iterator[str]:
    one, two = first.config.grid, other.config.grid
    for name, unit in (("clip_s", "s"), ("sample_rate", "Hz")):
        here, there = getattr(two, name), getattr(one, name)
        if here != there:
            yield (
                f"is for {'clips' if name == 'clip_s' else 'audio'} of {here:g} {unit}, "
                f"{first.path} of {there:g} {unit}; give checkpoints of one kind"
            )
    if (one.n_frames, one.frame_samples) != (two.n_frames, two.frame_samples):
        yield (
            f"has {count_of(two.n_frames, 'frame')} of {two.frame_s:g} s per clip, {first.path} "
            f"{one.n_frames} of {one.frame_s:g} s; give checkpoints with the same frames"
        )
    precisions = [str(each.config.training.precision) for each in (other, first)]
    if precisions[0] != precisions[1]:
        yield (
            f"computes in precision {precisions[0]}, {first.path} in {precisions[1]}; choose one "
            "with --set training.precision=..."
        )
    yield from _clip_differences(first, other, stage)
    keys = sorted(_flat_differences(decoder_settings(first.config), decoder_settings(other.config)))
    if keys:
        yield (
            f"is decoded otherwise than {first.path} ({examples(keys)}); choose one decoder for "
            "all with --set decoder.kind=... and --set net.median_filter=[...] (one length per "
            "class), or a --conf_file with a section decoder"
        )


def _clip_differences(first: EnsembleMember, other: EnsembleMember, stage: Any) -> Iterator[str]:
    there = {one.corpus.name: {*one.clip_ids} for one in first.data.scored(stage)}
    here = {one.corpus.name: {*one.clip_ids} for one in other.data.scored(stage)}
    for name in sorted(there.keys() | here.keys()):
        differing = here.get(name, set()) ^ there.get(name, set())
        if differing:
            yield (
                f"scores other clips of {name} than {first.path} ({examples(sorted(differing))}); "
                "give one configuration for all with --conf_file"
            )
    yield from _kind_differences(first, other, stage)


def _kind_differences(first: EnsembleMember, other: EnsembleMember, stage: Any) -> Iterator[str]:
    """Corpora of which one of two collects scores of frames or clips that the other does not."""
    kinds = [
        {
            one.corpus.name: member.config.detection_task.kinds(one.corpus)
            for one in member.data.scored(stage)
        }
        for member in (other, first)
    ]
    for name in sorted(kinds[0].keys() & kinds[1].keys()):
        here, there = (of_member[name] for of_member in kinds)
        if _collected(here) != _collected(there):
            ways = [" and ".join(sorted(one)) or "nothing" for one in (here, there)]
            yield (
                f"scores {ways[0]} of {name}, {first.path} {ways[1]}; give one configuration for "
                "all with --conf_file"
            )


def _collected(kinds: frozenset[str]) -> tuple[bool, bool]:
    """Whether scores of frames and of clips are collected (`ScoreAccumulator`)."""
    return kinds != {"tags"}, "tags" in kinds


def _flat_differences(
    one: Mapping[str, Any], other: Mapping[str, Any], place: str = ""
) -> Iterator[str]:
    """Dotted keys of values that differ."""
    for key in one.keys() | other.keys():
        here, there = one.get(key), other.get(key)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            yield from _flat_differences(here, there, f"{place}{key}.")
        elif here != there:
            yield f"{place}{key}"
