"""Checkpoints and the recipe: what of a file is used for a test, and what of a run is stored.

Loading itself, and what a file says of its detector, is `desed_task.checkpoints.safe_load`' and
`desed_task.checkpoints.spec`'s.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.spec import (
    SCHEMA_VERSION,
    SPEC_KEY,
    DetectorSpec,
    check_spec,
    check_tensors,
)
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.errors import InputError
from local.classes_dict import CLASSES
from local.config import UNREAD_KEYS, RecipeConfig, merge_overrides

# Of the `data` section: says which clips of this machine's tables are used, not where they lie.
KEPT_CLIPS = "keep_clips_without_events"


def detector_spec(config: RecipeConfig, beats_sha256: str = "") -> DetectorSpec:
    """The detector that a configuration describes.

    Args:
        config: of a run.
        beats_sha256: of the BEATs weights that its embeddings come from, where it is known.
    """
    feats, data = config.feats, config.data
    net = config.net.model_dump(mode="json", exclude={"median_filter"})
    values = {
        "schema_version": SCHEMA_VERSION,
        "classes": CLASSES,
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
        "embedding": {
            "model": "BEATs",
            "size": config.net.embedding_size,
            "checkpoint_sha256": beats_sha256,
        },
    }
    return DetectorSpec.from_dict(values, "the configuration")


def beats_sha256(readers: Sequence[EmbeddingReader | None]) -> str:
    """SHA-256 of the BEATs weights that files of embeddings come from; "" if not known or mixed."""
    found = {str(reader.identity.get("checkpoint_sha256", "")) for reader in readers if reader}
    return found.pop() if len(found) == 1 else ""


def config_of_checkpoint(
    checkpoint: Mapping[str, Any], here: RecipeConfig, overrides: Sequence[str], origin: str
) -> RecipeConfig:
    """The checkpoint's detector and hyperparameters with the paths and the machine of `here`.

    Keys that nothing here reads are dropped: a file is no place to mend them in.

    Args:
        checkpoint: as `load_safely` gives it.
        here: the configuration of this run: its folders, tables, files, which clips without events
            are kept, workers, progress bar and energy settings win, and median filters that were
            tuned for this very file.
        overrides: `section.key=value` each; they win over both.
        origin: path of the checkpoint.

    Raises:
        InputError: if its tensors are not those of its detector, if it has no hyperparameters, or
            they do not pass the check.
    """
    spec = DetectorSpec.of_checkpoint(checkpoint, origin)
    check_spec(spec, checkpoint["state_dict"], origin)
    tree = _known(checkpoint.get("hyper_parameters"), origin)
    mine = here.dump()
    paths = {key: value for key, value in mine["data"].items() if isinstance(value, str)}
    kept_clips = {KEPT_CLIPS: mine["data"][KEPT_CLIPS]}
    detector = _sections_of(spec, origin)
    tree["net"], tree["feats"] = detector["net"], detector["feats"]
    tree["data"] = {**paths, **kept_clips, **detector["data"]}
    tree["scaler"] = {**detector["scaler"], "savepath": mine["scaler"]["savepath"]}
    tree["pretrained"] = mine["pretrained"]
    tree["energy"] = mine["energy"]
    tree["tuned"] = mine["tuned"]
    tuned_for = here.tuned.checkpoint_sha256
    if tuned_for and Path(origin).is_file() and sha256_of(origin) == tuned_for:
        tree["net"]["median_filter"] = mine["net"]["median_filter"]
    machine = {key: mine["training"][key] for key in ("num_workers", "enable_progress_bar")}
    tree["training"] = {**tree["training"], **machine}
    return merge_overrides(tree, overrides, f"hyperparameters of {origin}")


def _sections_of(spec: DetectorSpec, origin: str) -> dict[str, dict[str, Any]]:
    """What of the configuration a detector fixes."""
    front_end = spec.front_end
    if front_end["n_fft"] != front_end["win"]:
        raise InputError(
            f"{origin}: its FFT of {front_end['n_fft']} samples has a window of "
            f"{front_end['win']}; this recipe's front end has one length for both"
        )
    if spec.classes != CLASSES:
        raise InputError(
            f"{origin}: its {len(spec.classes)} classes are not those of this task in their order; "
            "give a checkpoint that was trained with them"
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
    }


def _known(stored: Any, origin: str) -> dict[str, Any]:
    """The sections of stored hyperparameters, with the keys that the configuration has."""
    if not isinstance(stored, dict):
        raise InputError(f"{origin}: holds no hyper_parameters; it was not written by this recipe")
    unknown: list[str] = []
    tree: dict[str, Any] = {}
    for name, field in RecipeConfig.model_fields.items():
        branch, keys = stored.get(name, {}), getattr(field.annotation, "model_fields", {})
        if not isinstance(branch, dict):
            raise InputError(f"{origin}: hyper_parameters.{name} is {branch!r}, no section of keys")
        tree[name] = {key: copy.deepcopy(branch[key]) for key in branch if key in keys}
        unknown += [f"{name}.{key}" for key in branch if key not in keys]
    unknown = [key for key in unknown if key not in UNREAD_KEYS]
    if unknown:
        message = f"{origin}: nothing reads its {', '.join(unknown)}"
        warnings.warn(message, UserWarning, stacklevel=3)
    return tree


def load_networks(module: torch.nn.Module, state_dict: Mapping[str, Tensor], origin: str) -> None:
    """Load `state_dict` into the Lightning module, saying which tensor does not fit.

    Raises:
        InputError: naming missing and unknown tensors, those of another shape with the keys that it
            follows from, and those that are no finite numbers.
    """
    check_tensors(module.state_dict(), state_dict, origin)
    module.load_state_dict(dict(state_dict))


def warn_of_other_embeddings(
    checkpoint: Mapping[str, Any], readers: Sequence[EmbeddingReader | None], origin: str
) -> None:
    """One warning where the embeddings come from other BEATs weights than those trained with."""
    trained = checkpoint.get(SPEC_KEY, {}).get("embedding", {}).get("checkpoint_sha256", "")
    found = beats_sha256(readers)
    if trained and found and trained != found:
        warnings.warn(
            f"{origin} was trained on embeddings of other BEATs weights (SHA-256 "
            f"{trained[:12]}...) than those here ({found[:12]}...); extract them again with the "
            "same weights",
            UserWarning,
            stacklevel=2,
        )
