"""What a stage computes with, in plain values; a digest of them is its key.

Values that compute nothing (paths, workers, display) are left out, as where a training is resumed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from desed_task.audio.clip_files import clip_files
from desed_task.encoders.weights_file import find_weights
from desed_task.errors import InputError
from local.checkpoints.changes import (
    LONGEST_SHOWN,
    Kind,
    result_keys,
    rule_of,
    task_of_result,
)
from local.checkpoints.encoders.choice import KEYS_OF_WEIGHTS
from local.checkpoints.revision import REVISION
from local.checkpoints.tasks.compared import changed_task_values, chosen_on
from local.config import RecipeConfig, find_shipped
from local.config_schema import Training
from local.data.clips.windows import hop_of, takes_windows
from local.plan.reading import PlannedStage
from local.plan.schema import OF_ENCODERS, WITHOUT_CONFIGURATION, TuneBoxesStage
from local.plan.stages.products import CHECKPOINT_ENDING, FileDigests
from local.schema.decoding import Predict
from local.schema.overrides import TASK_SECTION, override_parts
from local.stores.device_responses import response_digests
from local.task.corpus import Corpus

# Value by name, such as `training.n_epochs` or `init_from beats_1`.
Ingredients = Mapping[str, Any]
_TABLES = ("labels", "durations", "list")
# Digits of a key that name a folder.
DIGITS = 10
# Keys of a stage that name stages or values, which are ingredients of their own.
_ELSEWHERE = {"kind", "needs", "encoder", "settings", "set"}
# Names of ingredients that only a test computes with, beside those of its corpora.
_OF_TESTS = ("training.n_test_thresholds", "data.test_groups", "task.scored.test")
_OTHERS = "task.others."  # corpora that are neither trained on nor validated
# Keys that name trainings, of which only the checkpoints count.
_OF_CHECKPOINTS = ("init_from", "checkpoints")


def key_of(ingredients: Ingredients) -> str:
    """The key of a stage: a SHA-256."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def ingredients_of(
    stage: PlannedStage,
    config: RecipeConfig,
    inputs: Mapping[str, Mapping[str, str]],
    digests: FileDigests,
) -> dict[str, Any]:
    """What a stage computes with.

    Args:
        stage: the stage.
        config: its configuration.
        inputs: stage that it names -> file -> digest of what that has written.
        digests: of files.
    """
    spec = stage.spec
    found: dict[str, Any] = {"kind": spec.kind}
    named = spec.inputs
    for key, value in spec.model_dump(mode="json").items():
        if key not in _ELSEWHERE and key not in named:
            found[f"stage.{key}"] = value
    for key, names in named.items():
        for name in names:
            content = sorted(
                digest
                for path, digest in inputs.get(name, {}).items()
                if key not in _OF_CHECKPOINTS or path.endswith(CHECKPOINT_ENDING)
            )
            found[f"{key} {name}"] = hashlib.sha256("".join(content).encode()).hexdigest()
    if spec.kind in WITHOUT_CONFIGURATION:
        return found
    values = _flat(config)
    if spec.kind == "train":
        wanted = [key for key in result_keys() if key in values]
        found |= {key: values[key] for key in wanted}
        found[TASK_SECTION] = task_of_result(config.dump())
        found["training rules"] = REVISION
        found |= response_digests(config)
        if "pseudo_labels" not in named:
            found |= _given_pseudo_labels(config, digests)
    elif spec.kind == "embeddings":
        found |= {key: values[key] for key in ("data.fs", "data.audio_max_len")}
    else:
        found |= _own_values(stage)
    if spec.kind in ("train", "test", "tune_boxes"):
        found |= _test_values(config)
    if isinstance(spec, TuneBoxesStage):
        found["search space"] = digests.of(find_shipped(spec.space))
    if spec.kind in OF_ENCODERS or stage.takes_embeddings:
        found |= _encoders(config, digests)
    return found | _windows(config) | _data(config, digests)


def _own_values(stage: PlannedStage) -> dict[str, Any]:
    """What a stage itself gives its command, but for what computes nothing or is counted here."""
    found: dict[str, Any] = {}
    for one in stage.own:
        if one.partition("=")[0].strip() == TASK_SECTION:
            found[TASK_SECTION] = one
            continue
        section, key, value = override_parts(one)
        found[f"{section}.{key}"] = value
    elsewhere = {*_OF_TESTS, *KEYS_OF_WEIGHTS}
    return {
        key: value
        for key, value in found.items()
        if key == TASK_SECTION
        or key.startswith("tuned.")
        or (key not in elsewhere and rule_of(key).kind not in (Kind.FREE, Kind.WINDOWS))
    }


def _test_values(config: RecipeConfig) -> dict[str, Any]:
    """What only tests compute with, where it is not the default."""
    found = {
        "training.n_test_thresholds": config.training.n_test_thresholds,
        "data.test_groups": config.dump()["data"]["test_groups"],
    }
    default = {"training.n_test_thresholds": Training.model_fields["n_test_thresholds"].default}
    found = {key: value for key, value in found.items() if value != default.get(key)}
    tree = config.dump()
    tested = {corpus.name for corpus in config.detection_task.scored_corpora("test")}
    for key, (_, value) in changed_task_values({**tree, TASK_SECTION: {}}, tree).items():
        name, _, last = key.removeprefix(_OTHERS).rpartition(".")
        of_test = key.startswith(_OTHERS) and name in tested
        if key in _OF_TESTS or (
            of_test and rule_of(f"task.corpora.{name}.{last}").kind != Kind.FREE
        ):
            found[key] = value
    return found


def _windows(config: RecipeConfig) -> dict[str, float]:
    """The distance of windows over long clips of each corpus, where it is not the default."""
    task, default = config.detection_task, Predict().hop_s
    hops = {one.name: hop_of(config, one) for one in task.used if takes_windows(task, one)}
    return {f"windows of {name}": hop for name, hop in hops.items() if hop != default}


def trained_with(ingredients: Ingredients, config: RecipeConfig) -> dict[str, Any]:
    """The ingredients of a training without those that only its test computes with.

    Args:
        ingredients: of the stage.
        config: its configuration, for its corpora.
    """
    task = config.detection_task
    left_out = set(_OF_TESTS)
    for corpus in task.used:
        if not (corpus.trains_on_windows and corpus in task.trained_on):
            left_out.add(f"windows of {corpus.name}")
        if corpus not in chosen_on(task):
            left_out |= {f"{what} of {corpus.name}" for what in ("clips", *_TABLES)}
    return {
        key: value
        for key, value in ingredients.items()
        if key not in left_out and not key.startswith(_OTHERS)
    }


def _flat(config: RecipeConfig) -> dict[str, Any]:
    """Value by dotted key."""
    return {
        f"{section}.{key}": value
        for section, branch in config.dump().items()
        for key, value in branch.items()
    }


def _encoders(config: RecipeConfig, digests: FileDigests) -> dict[str, Any]:
    """Encoders with the SHA-256 of their weights, where the network is given embeddings."""
    found: dict[str, Any] = {}
    for choice in config.pretrained.encoders if config.net.use_embeddings else ():
        try:
            weights = digests.of(find_weights(choice.file, choice.name))
        except InputError:
            weights = ""  # Only their embeddings are on this machine.
        found[f"encoder {choice.name}"] = [choice.n_blocks, weights]
    return found


def _given_pseudo_labels(config: RecipeConfig, digests: FileDigests) -> dict[str, str]:
    """Digests of pseudo-labels that no stage of the plan writes."""
    folder = config.training.pseudo_labels
    if not config.reads_pseudo_labels or folder is None:
        return {}
    files = sorted(Path(folder).glob("*.hdf5"))
    return {f"pseudo-labels of {path.stem}": digests.of(path) for path in files}


def _data(config: RecipeConfig, digests: FileDigests) -> dict[str, str]:
    """Digests of the clips and tables of each corpus."""
    found = {}
    for corpus in config.detection_task.used:
        found[f"clips of {corpus.name}"] = _listing(corpus)
        for what, path in _tables(corpus):
            files = {one: digests.of(one) for one in _files(path)}
            content = json.dumps(sorted((one.name, value) for one, value in files.items()))
            found[f"{what} of {corpus.name}"] = hashlib.sha256(content.encode()).hexdigest()
    return found


def _listing(corpus: Corpus) -> str:
    """A digest of names and sizes; the audio itself is compared where it is read."""
    digest = hashlib.sha256()
    for clip_id, path in sorted(clip_files(corpus.folder).items()):
        size = path.stat().st_size if path.is_file() else -1
        digest.update(f"{clip_id}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _tables(corpus: Corpus) -> Iterable[tuple[str, str]]:
    table = None if corpus.table is None else corpus.table.path
    paths = (table, corpus.durations, corpus.clips)
    return [(what, path) for what, path in zip(_TABLES, paths, strict=True) if path]


def _files(path: str) -> list[Path]:
    """The files of a table: one, or those of its clips."""
    beginning, brace, rest = path.partition("{")
    if not brace:
        return [Path(path)] if Path(path).is_file() else []
    folder = Path(beginning) if beginning.endswith("/") else Path(beginning).parent
    ending = Path(rest).suffix
    return sorted(one for one in folder.rglob(f"*{ending}") if one.is_file())


def changes_between(before: Ingredients, now: Ingredients) -> list[str]:
    """What differs between two states of a stage, in words."""
    found = []
    before, now = (_with_task_values(tree) for tree in (before, now))
    for name in dict.fromkeys((*now, *before)):
        if before.get(name) == now.get(name):
            continue
        if " " in name or "stage." in name:
            is_input = " " in name and name in before and name in now
            state = "has changed" if is_input else "is new" if name in now else "is gone"
            plain = name.removeprefix("stage.")
            if "stage." in name and name in before and name in now:
                state = f"is {_shown(now[name])}, was {_shown(before[name])}"
            found.append(f"{plain} {state}")
        else:
            # Values that tests alone compute with are left out where they are the default.
            old, new = (
                _shown(tree[name]) if name in tree else "the default" for tree in (before, now)
            )
            found.append(f"{name} is {new}, was {old}")
    return found


def _with_task_values(ingredients: Ingredients) -> dict[str, Any]:
    """With each value of the task by its own dotted key."""
    found = dict(ingredients)
    task = found.pop(TASK_SECTION, None)
    return found | (task if isinstance(task, dict) else {TASK_SECTION: task} if task else {})


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN // 10 else f"{text[: LONGEST_SHOWN // 10]} ..."
