"""Specification of a published checkpoint, from its hyper_parameters and tensors.

The published YAML says `rnn_layers: 1`, which nothing reads; the tensors have 2 layers
(docs/method.md, Departures). So sizes come from the tensors, and the rest from `hyper_parameters`.
Our own checkpoints from before they stored a specification are read in the same way.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from desed_task.checkpoints.encoder_specs import EncoderSpec, embedding_section, encoders_named
from desed_task.checkpoints.schema import as_plain, mismatches
from desed_task.checkpoints.state_names import NETWORK_PREFIXES, PUBLISHED_STAGE, holds_encoders
from desed_task.checkpoints.tensor_shapes import front_end_sizes, network_sizes
from desed_task.errors import InputError
from desed_task.published_classes import CLASSES

# The published detector, in the form of `DetectorSpec.to_dict`: defaults for values missing in a
# file, and the pattern that every specification must match.
PUBLISHED_SPEC: Final[dict[str, Any]] = {
    "schema_version": 5,
    "classes": list(CLASSES),
    "clip_s": 10.0,
    "sample_rate": 16000,
    "net_subsample": 4,
    "front_end": {
        "sample_rate": 16000,
        "n_fft": 2048,
        "win": 2048,
        "hop_samples": 256,
        "n_mels": 128,
        "f_min": 0.0,
        "f_max": 8000.0,
    },
    "scaler": {"statistic": "instance", "normtype": "minmax", "dims": [1, 2]},
    "net": {
        "nclass": 27,
        "attention": True,
        "n_RNN_cell": 192,
        "n_layers_RNN": 2,
        "rnn_type": "BGRU",
        "dropout": 0.2,
        "dropstep_recurrent": 0.3,
        "dropstep_recurrent_len": 16,
        "dropstep_scope": "batch",
        "use_embeddings": True,
        "embedding_size": 768,
        "embedding_type": "frame",
        "aggregation_type": "pool1d",
        "specaugm_t_p": 0.0,
        "specaugm_t_l": 5,
        "specaugm_f_p": 0.0,
        "specaugm_f_l": 10,
        "n_in_channel": 1,
        "activation": "glu",
        "kernel_size": [3] * 7,
        "padding": [1] * 7,
        "stride": [1] * 7,
        "nb_filters": [16, 32, 64, 128, 128, 128, 128],
        "pooling": [[2, 2], [2, 2], *([1, 2] for _ in range(5))],
    },
    "median_filter": [
        *(3, 9, 9, 5, 5, 5, 9, 7, 11, 9),
        *(7, 3, 9, 13, 7, 1, 13, 3, 13, 7, 5, 5, 1, 13, 17, 13, 15),
    ],
    "embedding": embedding_section(768, [EncoderSpec()]),
}

# Key of a front end -> key of the configuration's `feats`.
_FEATS = {
    "sample_rate": "sample_rate",
    "n_fft": "n_window",
    "win": "n_window",
    "hop_samples": "hop_length",
    "n_mels": "n_mels",
    "f_min": "f_min",
    "f_max": "f_max",
}


def is_published(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was written by the published code, which also stores whole networks, or
    by another published one (`desed_task.checkpoints.published_stages`).
    """
    marks = (*NETWORK_PREFIXES, PUBLISHED_STAGE)
    return "detector" not in checkpoint and any(name in checkpoint for name in marks)


def published_values(
    hyper: Mapping[str, Any], state: Mapping[str, Tensor], origin: str
) -> dict[str, Any]:
    """The specification of a checkpoint that stores none, as unchecked plain values.

    Warns once where the tensors and hyper_parameters differ; the tensors win.

    Args:
        hyper: the file's `hyper_parameters`, the configuration tree.
        state: its state_dict.
        origin: name of the checkpoint for messages.

    Raises:
        InputError: for sections that are not dicts, and tensors of networks of other code.
    """
    said = {key: _section(hyper, key) for key in ("net", "data", "feats", "scaler")}
    net, differing = _merged(
        "net", _net_arguments(said["net"]), network_sizes(state, "sed_student.")
    )
    feats = {key: said["feats"][name] for key, name in _FEATS.items() if name in said["feats"]}
    front_end, more = _merged("front_end", feats, front_end_sizes(state))
    if differing or more:
        message = f"{origin}: its tensors are used where its hyper_parameters differ: "
        warnings.warn(message + "; ".join(differing + more), UserWarning, stacklevel=2)
    data = said["data"]
    return {
        "schema_version": PUBLISHED_SPEC["schema_version"],
        "classes": _classes(hyper),
        "clip_s": data.get("audio_max_len", PUBLISHED_SPEC["clip_s"]),
        "sample_rate": data.get("fs", front_end["sample_rate"]),
        "net_subsample": data.get("net_subsample", PUBLISHED_SPEC["net_subsample"]),
        "front_end": front_end,
        "scaler": _merged("scaler", said["scaler"], {})[0],
        "net": net,
        "median_filter": said["net"].get("median_filter", PUBLISHED_SPEC["median_filter"]),
        "embedding": embedding_section(
            net["embedding_size"], _encoders(hyper, net), in_checkpoint=holds_encoders(state)
        ),
    }


def _classes(hyper: Mapping[str, Any]) -> Any:
    """The classes that a configuration's task lists, in groups or not; else the published ones."""
    task = hyper.get("task")
    listed = task.get("classes") if isinstance(task, Mapping) else None
    if isinstance(listed, Mapping):
        return [label for group in listed.values() for label in group]
    return PUBLISHED_SPEC["classes"] if listed is None else listed


def _encoders(hyper: Mapping[str, Any], net: Mapping[str, Any]) -> tuple[EncoderSpec, ...]:
    """The encoders that a file names, of a network that takes embeddings."""
    return encoders_named(hyper) if net["use_embeddings"] else (EncoderSpec(),)


def _net_arguments(net: Mapping[str, Any]) -> dict[str, Any]:
    """The `net` section, with the published key of the GRU layers renamed to ours."""
    if "rnn_layers" in net and "n_layers_RNN" not in net:
        return {**net, "n_layers_RNN": net["rnn_layers"]}
    return dict(net)


def _merged(
    part: str, said: Mapping[str, Any], measured: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Published values, overridden by those of the file, overridden by those of its tensors.

    Returns:
        The values, and a line for each in which the file differs from its tensors.
    """
    known, said = PUBLISHED_SPEC[part], as_plain(dict(said))
    differing = [
        f"{part}.{key} is {value!r}, not {said[key]!r}"
        for key, value in measured.items()
        if key in said and (mismatches(said[key], value) or said[key] != value)
    ]
    stated = {key: value for key, value in said.items() if key in known}
    return {**known, **stated, **measured}, differing


def _section(hyper: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = hyper.get(key, {})
    if not isinstance(found, dict):
        raise InputError(f"hyper_parameters.{key} is {found!r}, not a section of keys")
    return found
