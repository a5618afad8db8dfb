"""Load a YAML configuration and validate it into frozen values.

    config = load_config("confs/pretrained.yaml", overrides=["net.dropout=0.3"])

All errors in a file are reported at once, each with its dotted path. Keys that only the published
code's YAML has are accepted with a warning that says what to use instead. `local.config_schema`
documents the keys; `confs/pretrained.yaml` contains the published values.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from desed_task.audio.windows import WindowGrid
from desed_task.errors import InputError, count_of
from desed_task.labels import FrameGrid
from desed_task.postprocess.decoders import ScoreDecoder, decoder_of
from local.cli.redaction import redact_tree
from local.config_schema import (
    Data,
    Energy,
    Feats,
    InitialWeights,
    Logging,
    Net,
    Opt,
    ScalerConfig,
    Training,
)
from local.schema.augment import Augment
from local.schema.decoding import DecoderConfig, Predict, Tuned
from local.schema.encoders import BEATS, Pretrained
from local.schema.losses import Losses, consistency_problems, pseudo_label_problems
from local.schema.overrides import TASK_SECTION
from local.schema.overrides import apply_override as apply_override
from local.schema.problems import PlacedError, validation_problems
from local.schema.published_keys import TASK_KEYS, UNREAD_KEYS, PublishedPaths, PublishedTraining
from local.schema.strict import StrictModel
from local.schema.yaml_files import read_yaml
from local.task.checks import lengths_by_class, published_rows, task_problems
from local.task.merging import apply_overrides
from local.task.reading import (
    listed_classes,
    read_keys,
    task_of,
)
from local.task.shipped_files import SHIPPED as SHIPPED
from local.task.shipped_files import find_shipped as find_shipped
from local.task.task import Task

# Where the mini corpus is made without --basedir.
MINI_FOLDER = Path("data/mini")

# This section is read by optuna_pretrained.py only.
TUNING_SECTION = "optuna"


class RecipeConfig(StrictModel):
    """The complete configuration of a run."""

    pretrained: Pretrained = Pretrained()
    training: Training = Training()
    scaler: ScalerConfig = ScalerConfig()
    data: Data = Data()
    opt: Opt = Opt()
    losses: Losses = Losses()
    augment: Augment = Augment()
    feats: Feats = Feats()
    net: Net = Net()
    decoder: DecoderConfig = DecoderConfig()
    predict: Predict = Predict()
    energy: Energy = Energy()
    logging: Logging = Logging()
    tuned: Tuned = Tuned()
    initial_weights: InitialWeights = InitialWeights()
    task: dict[str, Any] = Field(default={})
    """Description of the task (`local.schema.task`); empty: the DCASE 2024 task. In a file also the
    name of a supplied description, or the path of one."""

    @model_validator(mode="before")
    @classmethod
    def _for_its_task(cls, tree: Any) -> Any:
        """Give the network one output and one median filter for each class of the task."""
        if not isinstance(tree, dict):
            return tree
        task, training, net = (tree.get(name) for name in (TASK_SECTION, "training", "net"))
        classes = listed_classes(task)
        if isinstance(net, dict | None) and classes:
            net = {"nclass": len(classes), **(net or {})}
            # The published lengths of the default task are not those that others begin with.
            if task or net.get("median_filter") is not None:
                lengths = lengths_by_class(net.get("median_filter"), classes)
                net = {**net, "median_filter": lengths}
            tree = {**tree, "net": net}
        if not task and isinstance(training, dict | None):
            given = (training or {}).get("batch_size")
            rows = published_rows() if given is None else given
            tree = {**tree, "training": {**(training or {}), "batch_size": rows}}
        return tree

    @model_validator(mode="after")
    def _task_is_usable(self) -> RecipeConfig:
        sections = self.model_dump(include={"data", "training", "net"})
        problems = task_problems(self.task, sections)
        classes = listed_classes(self.task)
        problems += [*self.decoder.settings.problems(classes), *self.predict.problems(classes)]
        if problems:
            raise PlacedError(problems)
        return self

    @model_validator(mode="after")
    def _encoders_are_used(self) -> RecipeConfig:
        if self.pretrained.e2e and not self.net.use_embeddings:
            raise ValueError(
                "pretrained.e2e: true runs encoders inside the step, but net.use_embeddings is "
                "false; set it to true, or pretrained.e2e: false"
            )
        return self

    @model_validator(mode="after")
    def _losses_and_augmentation_fit(self) -> RecipeConfig:
        corpora = self.detection_task.trained_on if self.losses.corpora else ()
        problems = self.losses.problems({one.name: one.labels for one in corpora})
        problems += pseudo_label_problems(self.losses.pseudo, self.training.pseudo_labels)
        roles = self.detection_task.roles
        grouped = {one for group in roles.mixup_groups for one in group}
        mixes_any = self.augment.mix_across or not grouped.isdisjoint(roles.consistency)
        problems += consistency_problems(
            self.training.consistency, self.augment.mixup_prob, mixes_any=mixes_any
        )
        self.losses.warn_of_unread()
        problems += self.augment.problems(
            mixes=self.training.mixup is not None,
            runs_encoders=self.runs_encoders,
            reads_embeddings=self.net.embedding_type if self.reads_embeddings else None,
            n_mels=self.feats.n_mels,
        )
        if problems:
            raise PlacedError(problems)
        return self

    @model_validator(mode="after")
    def _rates_agree(self) -> RecipeConfig:
        if self.data.fs != self.feats.sample_rate:
            raise ValueError(
                f"data.fs ({self.data.fs}) and feats.sample_rate ({self.feats.sample_rate}) "
                "must be the same"
            )
        return self

    @model_validator(mode="after")
    def _pooling_fits(self) -> RecipeConfig:
        frames = math.prod(frames for frames, _ in self.net.pooling)
        bands = math.prod(bands for _, bands in self.net.pooling)
        if frames != self.data.net_subsample:
            raise ValueError(
                f"net.pooling averages {count_of(frames, 'frame')} into one, data.net_subsample "
                f"is {self.data.net_subsample}; make them the same"
            )
        if bands != self.feats.n_mels:
            raise ValueError(
                f"net.pooling reduces {bands} mel bands to one, feats.n_mels is "
                f"{self.feats.n_mels}; make them the same"
            )
        return self

    @property
    def detection_task(self) -> Task:
        """What is detected, in what, and how it is scored."""
        sections = {"data": self.data.model_dump(), "training": self.training.model_dump()}
        return task_of(self.task, sections)

    @property
    def reads_embeddings(self) -> bool:
        """Whether the network is given embeddings that were extracted beforehand."""
        return self.net.use_embeddings and not self.pretrained.e2e

    @property
    def runs_encoders(self) -> bool:
        """Whether encoders run inside the steps of training and tests, on waveforms."""
        return self.net.use_embeddings and self.pretrained.e2e

    @property
    def reads_pseudo_labels(self) -> bool:
        """Whether training reads pseudo-labels."""
        return self.losses.pseudo > 0

    @property
    def grid(self) -> FrameGrid:
        """The label grid."""
        data = self.data
        return FrameGrid.for_clip(
            data.audio_max_len, data.fs, self.feats.hop_length, data.net_subsample
        )

    def score_decoder(self) -> ScoreDecoder:
        """The decoder of scores of all classes of the task."""
        lengths = self.net.median_filter
        classes = self.detection_task.classes
        return decoder_of(self.decoder.settings, classes, median_filter=lengths)

    def windows(self) -> WindowGrid:
        """Windows over recordings that are longer than a clip.

        Raises:
            InputError: for a hop that is too short or too long.
        """
        return WindowGrid.with_hop(self.grid, self.predict.hop_s)

    def dump(self) -> dict[str, Any]:
        """The values as plain lists, numbers and strings."""
        return self.model_dump(mode="json")

    def dump_public(self) -> dict[str, Any]:
        """As `dump`, with the passwords and keys of loggers replaced by ***, for files."""
        tree = self.dump()
        return {**tree, "logging": redact_tree(tree["logging"])}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RecipeConfig:
    """Read, override and check a configuration file.

    Args:
        path: YAML file of this recipe or a copy of the published one; see `find_shipped`.
        overrides: entries `section.key=value`, the value in YAML.

    Raises:
        InputError: all errors in the file and the overrides.
    """
    found = find_shipped(path)
    return config_of_tree(read_sections(found), overrides, str(found))


def config_of_tree(tree: dict[str, Any], overrides: Sequence[str], origin: str) -> RecipeConfig:
    """As `load_config`, for the values of a file.

    Args:
        tree: they; modified in place.
        overrides: entries `section.key=value`, the value in YAML.
        origin: the file, for messages.
    """
    config = merge_overrides(tree, overrides, origin)
    _warn_of_unread_keys(tree, origin)
    given = any(one.partition("=")[0].strip() == "net.embedding_size" for one in overrides)
    return config if given else _with_size_of_encoder(config)


def _warn_of_unread_keys(tree: dict[str, Any], origin: str) -> None:
    """Warn of keys about the corpora of the published task that another one does not read."""
    read = read_keys(tree[TASK_SECTION])
    # Defaults, which the configuration of a run folder has too, mean nothing.
    default = {"data": PublishedPaths().model_dump(), "training": PublishedTraining().model_dump()}
    given = {
        f"{name}.{key}"
        for name, values in default.items()
        for key, value in (tree.get(name) or {}).items()
        if key in values and value != values[key]
    }
    unread = sorted((given & TASK_KEYS) - read)
    if unread:
        warnings.warn(
            f"{origin}: the task does not read {', '.join(unread)}; delete "
            f"{'it' if len(unread) == 1 else 'them'}",
            UserWarning,
            stacklevel=3,
        )


def _with_size_of_encoder(config: RecipeConfig) -> RecipeConfig:
    """Without `net.embedding_size`, which files give for BEATs, where another encoder is chosen."""
    if config.pretrained.names == (BEATS,):
        return config
    net = config.net.model_copy(update={"embedding_size": None})
    return config.model_copy(update={"net": net})


def merge_overrides(tree: dict[str, Any], overrides: Sequence[str], origin: str) -> RecipeConfig:
    """Apply overrides to a tree, where they take precedence, and validate it.

    Args:
        tree: values of a file, or of a checkpoint and a file; modified in place.
        overrides: entries `section.key=value`, the value in YAML; `task=NAME` chooses another task.
        origin: where the tree came from, for messages.

    Raises:
        InputError: all errors in the tree and the overrides.
    """
    apply_overrides(tree, overrides, origin)
    return check_config(tree, origin)


def check_config(tree: dict[str, Any], origin: str) -> RecipeConfig:
    """Validate a tree of plain values.

    Args:
        tree: sections of keys, as in a YAML file or a checkpoint's hyperparameters.
        origin: where it came from, for messages.

    Raises:
        InputError: all errors at once.
    """
    tree = _drop_unread(tree, origin)
    try:
        return RecipeConfig.model_validate(tree)
    except ValidationError as error:
        problems = validation_problems(error, RecipeConfig)
        problems += [one for one in _hidden_problems(tree) if one not in problems]
        raise InputError.collect(problems, f"{origin} cannot be used:") from None


def _hidden_problems(tree: dict[str, Any]) -> list[str]:
    """Problems with the task and its classes, not looked for where any section is faulty."""
    task = tree.get(TASK_SECTION) or {}
    given = {name: tree.get(name) or {} for name in ("data", "training", "net")}
    if not all(isinstance(one, dict) for one in (task, *given.values())):
        return []
    valid = {
        name: _section(model, tree.get(name))
        for name, model in (
            ("data", Data),
            ("training", Training),
            ("decoder", DecoderConfig),
            ("predict", Predict),
        )
    }
    valued = {name: valid[name].model_dump() for name in ("data", "training") if valid[name]}
    problems = task_problems(task, {**given, **valued}, is_whole=len(valued) == 2)
    classes, decoder, predict = listed_classes(task), valid["decoder"], valid["predict"]
    problems += decoder.settings.problems(classes) if isinstance(decoder, DecoderConfig) else []
    return problems + (predict.problems(classes) if isinstance(predict, Predict) else [])


def _section(model: type[StrictModel], given: Any) -> StrictModel | None:
    try:
        return model.model_validate(given or {})
    except ValidationError:
        return None


def read_sections(path: Path) -> dict[str, Any]:
    """The values of a configuration file.

    Raises:
        InputError: it has no sections.
    """
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise InputError(f"{path}: contains no sections (net:, training:, data: ...)")
    if "corpora" in tree and TASK_SECTION not in tree:
        raise InputError(
            f"{path}: describes a task and is no configuration; give it with --set task={path}, or "
            "write it below `task:`"
        )
    return tree


def _drop_unread(tree: dict[str, Any], origin: str) -> dict[str, Any]:
    """A copy of `tree` without unread keys, with a warning for each."""
    kept: dict[str, Any] = {}
    for section, branch in tree.items():
        if section == TUNING_SECTION:
            continue
        if not isinstance(branch, dict):
            kept[section] = {} if branch is None else branch
            continue
        kept[section] = {k: v for k, v in branch.items() if f"{section}.{k}" not in UNREAD_KEYS}
        for key in branch:
            hint = UNREAD_KEYS.get(f"{section}.{key}")
            if hint:
                message = f"{origin}: nothing reads {section}.{key}: {hint}"
                warnings.warn(message, UserWarning, stacklevel=4)
    return kept
