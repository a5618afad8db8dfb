"""Load a YAML configuration and validate it into frozen values.

    config = load_config("confs/pretrained.yaml", overrides=["net.dropout=0.3"])

All errors in a file are reported at once, each with its dotted path. Keys that only the published
code's YAML has are accepted with a warning that says what to use instead. `local.config_schema`
documents the keys; `confs/pretrained.yaml` contains the published values.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError, model_validator
from pydantic.fields import FieldInfo

from desed_task.atomic_files import read_text
from desed_task.audio.windows import WindowGrid
from desed_task.errors import InputError, count_of
from desed_task.file_names import current_folder, looked_up_from, printable
from desed_task.labels import FrameGrid
from desed_task.postprocess.decoders import ScoreDecoder, decoder_of
from local.classes_dict import CLASSES
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
from local.schema.decoding import DecoderConfig, Predict, Tuned
from local.schema.encoders import BEATS, Pretrained
from local.schema.strict import StrictModel

UNREAD_KEYS: dict[str, str] = {
    "net.rnn_layers": "the published code never read it; set net.n_layers_RNN (published: 2)",
    "training.val_thresholds": "validation uses the threshold 0.5 that its metrics' names state",
    "training.backend": "choose the device with --gpus",
    "feats.n_filters": "it repeated the window length; set feats.n_window",
    "data.synth_maestro_train": "MAESTRO synth is not trained on",
    "data.synth_maestro_train_44k": "MAESTRO synth is not trained on",
    "data.synth_maestro_tsv": "MAESTRO synth is not trained on",
    "pretrained.e2e": "embeddings are always extracted beforehand",
    "pretrained.freezed": "embeddings are always extracted beforehand, so encoders are frozen",
}


SHIPPED = Path(__file__).resolve().parents[1] / "confs"
"""Folder of the supplied files."""
CONFIGURATIONS = ("pretrained.yaml", "mini.yaml", "optuna.yaml")
# Where the mini corpus is made without --basedir.
MINI_FOLDER = Path("data/mini")

# This section is read by optuna_pretrained.py only.
TUNING_SECTION = "optuna"


class RecipeConfig(StrictModel):
    """The complete configuration of a run."""

    pretrained: Pretrained = Pretrained()
    training: Training = Training()
    scaler: ScalerConfig = ScalerConfig()
    data: Data
    opt: Opt = Opt()
    feats: Feats = Feats()
    net: Net
    decoder: DecoderConfig = DecoderConfig()
    predict: Predict = Predict()
    energy: Energy = Energy()
    logging: Logging = Logging()
    tuned: Tuned = Tuned()
    initial_weights: InitialWeights = InitialWeights()

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
    def grid(self) -> FrameGrid:
        """The label grid."""
        data = self.data
        return FrameGrid.for_clip(
            data.audio_max_len, data.fs, self.feats.hop_length, data.net_subsample
        )

    def score_decoder(self) -> ScoreDecoder:
        """The decoder of scores of all classes of the task."""
        lengths = self.net.median_filter
        return decoder_of(self.decoder.settings, CLASSES, median_filter=lengths)

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
    config = merge_overrides(_read_tree(found), overrides, str(found))
    given = any(one.partition("=")[0].strip() == "net.embedding_size" for one in overrides)
    return config if given else _with_size_of_encoder(config)


def _with_size_of_encoder(config: RecipeConfig) -> RecipeConfig:
    """Without `net.embedding_size`, which files give for BEATs, where another encoder is chosen."""
    if config.pretrained.names == (BEATS,):
        return config
    net = config.net.model_copy(update={"embedding_size": None})
    return config.model_copy(update={"net": net})


def find_shipped(
    path: str | Path,
    missing: str = "no such configuration file",
    supplied: Sequence[str] = CONFIGURATIONS,
) -> Path:
    """The file at a path or, if there is none, the supplied one of that name.

    Relative paths start from the folder in which the command was started. A supplied file is found
    from everywhere, as `confs/mini.yaml`, `mini.yaml` or `mini`; one in `confs` of that folder
    takes precedence. If it is not the file at the path, a line says which was taken.

    Args:
        path: path or name of the file.
        missing: what the error says of a file that is not there.
        supplied: names of the supplied files of this kind.

    Raises:
        InputError: there is none.
    """
    given = Path(path)
    if given.is_file():
        return given
    name = given.name if given.suffix else f"{given.name}.yaml"
    if name in supplied and given.parent in (Path(), Path("confs")):
        for found in (given.parent / name, Path("confs") / name, SHIPPED / name):
            if found.is_file():
                print(f"using {printable(str(found))} (there is no {given} in {current_folder()})")
                return found
    reason = f"{missing}, but a folder" if given.is_dir() else missing
    names = ", ".join(f"confs/{one}" for one in supplied)
    raise InputError(f"{path}: {reason}{looked_up_from(path)}; supplied: {names}")


def merge_overrides(tree: dict[str, Any], overrides: Sequence[str], origin: str) -> RecipeConfig:
    """Apply overrides to a tree, where they take precedence, and validate it.

    Args:
        tree: values of a file, or of a checkpoint and a file; modified in place.
        overrides: entries `section.key=value`, the value in YAML.
        origin: where the tree came from, for messages.

    Raises:
        InputError: all errors in the tree and the overrides.
    """
    for override in overrides:
        apply_override(tree, override)
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
        raise InputError.collect(problems, f"{origin} cannot be used:") from None


def _read_tree(path: Path) -> dict[str, Any]:
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise InputError(f"{path}: contains no sections (net:, training:, data: ...)")
    return tree


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file without duplicate keys.

    Raises:
        InputError: the file is not valid YAML, has a duplicate key or an unknown encoding.
    """
    try:
        return yaml.load(read_text(path), _UniqueKeys)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as YAML: {reason}") from None


class _UniqueKeys(yaml.SafeLoader):
    """Rejects duplicate keys in a mapping, of which PyYAML silently uses the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise yaml.YAMLError(
                    f"{key.value!r} appears in line {lines[key.value]} and again in line {line}; "
                    "keep one of them"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one `section.key=value` in a tree of plain values, without validating it.

    Raises:
        InputError: if `override` is not of that form.
    """
    dotted, equals, text = override.partition("=")
    section, dot, key = dotted.strip().partition(".")
    if not (equals and dot and section and key):
        raise InputError(f"--set {override}: write it as section.key=value, e.g. net.dropout=0.3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        hint = "; write a list without spaces, or in quotes" if text.strip()[:1] == "[" else ""
        raise InputError(f"--set {override}: the value is not YAML: {error}{hint}") from None
    branch = tree[section] = {} if tree.get(section) is None else tree[section]
    if not isinstance(branch, dict):
        raise InputError(f"--set {override}: {section} is not a section")
    branch[key] = value


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


def validation_problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One message with the dotted path for each error that `model` found."""
    problems = []
    for mistake in error.errors(include_url=False):
        where = ".".join(str(part) for part in mistake["loc"]) or "configuration"
        if mistake["type"] == "extra_forbidden":
            what = f"unknown key (value {mistake['input']!r}); {_suggest(mistake['loc'], model)}"
        elif mistake["type"] == "missing":
            what = "missing; give it a value"
        else:
            what = mistake["msg"].removeprefix("Value error, ")
            if not isinstance(mistake["input"], dict | BaseModel):
                what += f" (value {mistake['input']!r})"
        problems.append(f"{where}: {what}")
    return problems


def _suggest(loc: tuple[int | str, ...], model: type[BaseModel]) -> str:
    fields = model.model_fields
    for part in (str(part) for part in loc[:-1] if isinstance(part, str)):
        # A mapping's key is not a field; its values have the model found so far.
        if part in fields:
            fields = next(_fields_in(fields[part].annotation), {})
    near = difflib.get_close_matches(str(loc[-1]), fields, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(fields)}"


def _fields_in(annotation: Any) -> Iterator[dict[str, FieldInfo]]:
    """Fields of the models in a type, including those inside lists and mappings."""
    if hasattr(annotation, "model_fields"):
        yield annotation.model_fields
    for inner in get_args(annotation):
        yield from _fields_in(inner)
