"""Convert between the configuration and a checkpoint's detector and hyperparameters.

`desed_task.checkpoints` loads files safely and reads their detector specification.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from desed_task.checkpoints.encoder_specs import embedding_section
from desed_task.checkpoints.spec import (
    SCHEMA_VERSION,
    DetectorSpec,
    check_spec,
)
from desed_task.checkpoints.state_names import is_bare
from desed_task.checkpoints.tensor_shapes import check_tensors, with_front_end
from desed_task.dataio.embeddings import RowReader
from desed_task.encoders.interface import EmbeddingModel
from desed_task.errors import InputError, count_of
from local.checkpoints.decoder_choice import choose_decoder, tell_decoder
from local.checkpoints.encoders.choice import choose_encoders
from local.checkpoints.encoders.fine_tuned import encoders_stored
from local.checkpoints.encoders.stored_embeddings import encoders_of
from local.config import TASK_SECTION, UNREAD_KEYS, RecipeConfig, merge_overrides
from local.data.corpus_checks import examples
from local.stores.size import with_embedding_size

# Key of the `data` section that chooses clips, not a path; so does `test_groups`.
KEPT_CLIPS = "keep_clips_without_events"


def detector_spec(
    config: RecipeConfig,
    readers: Sequence[RowReader | None] = (),
    encoder: EmbeddingModel | None = None,
) -> DetectorSpec:
    """The detector that a configuration describes.

    Args:
        config: configuration of a run.
        readers: the embeddings, for what they tell of the encoders' weights.
        encoder: what runs inside the training step, and is stored with the networks.
    """
    config = with_embedding_size(config)
    feats, data = config.feats, config.data
    net = config.net.model_dump(mode="json", exclude={"median_filter"})
    values = {
        "schema_version": SCHEMA_VERSION,
        "classes": config.detection_task.classes,
        "clip_s": data.audio_max_len,
        "sample_rate": data.fs,
        "net_subsample": data.net_subsample,
        "front_end": {
            "sample_rate": feats.sample_rate,
            "n_fft": feats.n_window,
            "win": feats.n_window,
            "hop_samples": feats.hop_length,
            "n_mels": feats.n_mels,
            "f_min": feats.f_min,
            "f_max": feats.f_max,
        },
        "scaler": config.scaler.model_dump(mode="json", exclude={"savepath"}),
        "net": net,
        "median_filter": config.net.median_filter,
        "decoder": config.decoder.settings.to_plain(),
        "embedding": embedding_section(
            config.net.embedding_size,
            encoders_of(config, readers) if encoder is None else encoders_stored(config, encoder),
            in_checkpoint=encoder is not None,
        ),
    }
    return DetectorSpec.from_dict(values, "the configuration")


def config_of_checkpoint(
    checkpoint: Mapping[str, Any], here: RecipeConfig, overrides: Sequence[str], origin: str
) -> RecipeConfig:
    """Combine a checkpoint's detector and hyperparameters with the paths and machine of `here`.

    Unknown keys are dropped, as the user cannot correct them in a checkpoint.

    Args:
        checkpoint: as `load_safely` gives it.
        here: the configuration of this run. Its paths, `keep_clips_without_events`, `test_groups`,
            workers, progress bar, windows (`predict`), loggers, energy settings and task (of the
            same classes) take precedence,
            and so do median filters and a decoder that were tuned for this file. Another decoder
            than the default one takes precedence too, in one line.
        overrides: entries `section.key=value`, which take precedence over both.
        origin: path of the checkpoint.

    Raises:
        InputError: its tensors do not match its detector, or its hyperparameters are missing or
            invalid; or `overrides` name other encoders than those that it holds.
    """
    bare = is_bare(checkpoint)
    if bare:
        warnings.warn(
            f"{origin}: contains weights only; what their shapes do not tell (front end, pooling, "
            "median filters ...) is taken from the configuration",
            UserWarning,
            stacklevel=2,
        )
        checkpoint = {**checkpoint, "hyper_parameters": with_embedding_size(here).dump()}
    spec = DetectorSpec.of_checkpoint(checkpoint, origin)
    check_spec(spec, checkpoint["state_dict"], origin)
    tree = known_hyperparameters(checkpoint.get("hyper_parameters"), origin)
    mine = here.dump()
    _check_classes(spec, here, origin)
    paths = {key: value for key, value in mine["data"].items() if isinstance(value, str)}
    kept_clips = {key: mine["data"][key] for key in (KEPT_CLIPS, "test_groups")}
    detector = _sections_of(spec, origin)
    tree["net"], tree["feats"] = detector["net"], detector["feats"]
    tree["data"] = {**paths, **kept_clips, **detector["data"]}
    tree["scaler"] = {**detector["scaler"], "savepath": mine["scaler"]["savepath"]}
    tree["decoder"] = dict(detector["decoder"])
    tree["pretrained"] = choose_encoders(
        spec, here, tree["pretrained"], overrides, "" if bare else origin
    )
    for section in ("energy", "predict", "logging", "tuned"):
        tree[section] = mine[section]
    chosen = choose_decoder(tree, here, overrides, origin)
    machine = {key: mine["training"][key] for key in ("num_workers", "enable_progress_bar")}
    if tree[TASK_SECTION] != mine[TASK_SECTION]:
        # Rows of other corpora, which a test does not draw.
        machine["batch_size"] = mine["training"]["batch_size"]
    tree["training"] = {**tree["training"], **machine}
    tree[TASK_SECTION] = mine[TASK_SECTION]
    config = merge_overrides(tree, overrides, f"hyperparameters of {origin}")
    if not chosen:
        tell_decoder(config.decoder, detector["decoder"], here.decoder.kind, origin)
    return config


def _sections_of(spec: DetectorSpec, origin: str) -> dict[str, dict[str, Any]]:
    """The configuration values that a detector determines."""
    front_end = spec.front_end
    if front_end["n_fft"] != front_end["win"]:
        raise InputError(
            f"{origin}: its FFT has {front_end['n_fft']} samples and a window of "
            f"{front_end['win']}; in this recipe they have the same length"
        )
    return {
        "net": {**copy.deepcopy(spec.net), "median_filter": list(spec.median_filter)},
        "feats": {
            "sample_rate": front_end["sample_rate"],
            "n_window": front_end["win"],
            "hop_length": front_end["hop_samples"],
            **{key: front_end[key] for key in ("n_mels", "f_min", "f_max")},
        },
        "data": {
            "audio_max_len": spec.clip_s,
            "fs": spec.sample_rate,
            "net_subsample": spec.net_subsample,
        },
        "scaler": dict(spec.scaler),
        "decoder": copy.deepcopy(spec.decoder),
    }


def _check_classes(spec: DetectorSpec, here: RecipeConfig, origin: str) -> None:
    """Refuse a detector whose classes are not those of the configuration's task in their order."""
    task = here.detection_task
    if spec.classes == task.classes:
        return
    if {*spec.classes} == {*task.classes}:
        what = f"has the classes of the task {task.name} in another order"
    else:
        own = [label for label in spec.classes if label not in task.classes]
        other = [label for label in task.classes if label not in spec.classes]
        differing = [
            f"{name} {count_of(len(labels), 'class', 'classes')} ({examples(labels)})"
            for name, labels in (("it alone has", own), ("only the task has", other))
            if labels
        ]
        what = (
            f"has {count_of(len(spec.classes), 'class', 'classes')}, the task {task.name} has "
            f"{len(task.classes)}: {'; '.join(differing)}"
        )
    raise InputError(
        f"{origin}: {what}; give the configuration of its training with --conf_file, or leave the "
        "flag out, which means the checkpoint's own"
    )


def known_hyperparameters(stored: Any, origin: str) -> dict[str, Any]:
    """Stored hyperparameters without unknown keys, of which it warns."""
    if not isinstance(stored, dict):
        raise InputError(
            f"{origin}: contains no hyper_parameters; it was not written by this recipe"
        )
    unknown: list[str] = []
    tree: dict[str, Any] = {}
    for name, field in RecipeConfig.model_fields.items():
        branch, keys = stored.get(name, {}), getattr(field.annotation, "model_fields", {})
        if not isinstance(branch, dict):
            raise InputError(
                f"{origin}: hyper_parameters.{name} is {branch!r}, not a section of keys"
            )
        if name == TASK_SECTION:
            tree[name] = copy.deepcopy(branch)
            continue
        tree[name] = {key: copy.deepcopy(branch[key]) for key in branch if key in keys}
        unknown += [f"{name}.{key}" for key in branch if key not in keys]
    unknown = [key for key in unknown if key not in UNREAD_KEYS]
    if unknown:
        message = f"{origin}: ignoring unknown hyperparameters {', '.join(unknown)}"
        warnings.warn(message, UserWarning, stacklevel=3)
    return tree


def load_networks(module: torch.nn.Module, state_dict: Mapping[str, Tensor], origin: str) -> None:
    """Load `state_dict` into the Lightning module.

    Raises:
        InputError: tensors are missing, unknown, not finite or of another shape; for shapes, the
            message names the keys that determine them.
    """
    check_tensors(module.state_dict(), state_dict, origin)
    module.load_state_dict(with_front_end(module, state_dict))
