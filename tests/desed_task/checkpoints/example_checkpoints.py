"""Small checkpoints for tests: of ours, as published, and damaged ones."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from desed_task.checkpoints.published import PUBLISHED_SPEC
from desed_task.checkpoints.spec import DetectorSpec, _Modules

NET = {
    "n_RNN_cell": 4,
    "n_layers_RNN": 2,
    "embedding_size": 6,
    "kernel_size": [3, 3],
    "padding": [1, 1],
    "stride": [1, 1],
    "nb_filters": [3, 5],
    "pooling": [[2, 4], [2, 4]],
    "dropout": 0.0,
}
FEATS = {"n_mels": 16, "n_fft": 512, "win": 512, "hop_samples": 160}


def small_spec(*, scaler: Mapping[str, Any] | None = None, **net: Any) -> DetectorSpec:
    """A detector of a few hundred parameters, unlike the published one in every size."""
    values = deepcopy(PUBLISHED_SPEC)
    values["net"].update(NET, **net)
    values["front_end"].update(FEATS)
    values["scaler"].update(scaler or {})
    values["embedding"]["size"] = values["net"]["embedding_size"]
    return DetectorSpec.from_dict(values, "small")


def tensors(spec: DetectorSpec, seed: int = 3) -> dict[str, Tensor]:
    """A state_dict with random weights; student and teacher differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _Modules(spec).state_dict()


def ours(spec: DetectorSpec, **more: Any) -> dict[str, Any]:
    """What a checkpoint of ours holds."""
    return {"state_dict": tensors(spec), "detector": spec.to_dict(), **more}


def published(spec: DetectorSpec) -> dict[str, Any]:
    """The same as the published code writes it: counters, repeated modules, numpy scalars."""
    state = tensors(spec)
    for name in ("sed_student", "sed_teacher.cnn"):
        state[f"{name}.total_ops"] = torch.zeros(1, dtype=torch.float64)
        state[f"{name}.total_params"] = torch.zeros(1, dtype=torch.float64)
    feats = spec.front_end
    hyper = {
        "net": {**spec.net, "rnn_layers": 1, "median_filter": list(spec.median_filter)},
        "data": {"audio_max_len": 10, "fs": 16000, "net_subsample": spec.net_subsample},
        "feats": {
            "n_mels": feats["n_mels"],
            "n_filters": 2048,
            "hop_length": feats["hop_samples"],
            "n_window": feats["win"],
            "sample_rate": 16000,
            "f_min": 0,
            "f_max": 8000,
        },
        "scaler": {**spec.scaler, "savepath": "./scaler.ckpt"},
    }
    del hyper["net"]["n_layers_RNN"]
    repeated = {
        part: {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(part)}
        for part in ("sed_student", "sed_teacher")
    }
    callbacks = {"EarlyStopping": {"best_score": np.float64(0.25)}}
    return {"state_dict": state, "hyper_parameters": hyper, "callbacks": callbacks, **repeated}


def saved(content: Any, path: Path) -> Path:
    """`content` in a file of torch.save."""
    torch.save(content, path)
    return path


def rewritten(path: Path, change: Mapping[str, bytes], compression: int = 0) -> Path:
    """`path` with other bytes in the members named (below their folder), checksums right."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, change.get(name.partition("/")[2], content))
    path.write_bytes(memory.getvalue())
    return path


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pwned",)
