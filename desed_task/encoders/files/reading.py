"""Read a file of weights without running code from it, and without filling the memory."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from desed_task.encoders.interface import StateDict
from desed_task.errors import InputError, command_line, command_name, count_of, loading_reason

# Dictionaries that files keep their tensors in.
_CONTAINERS: Final = ("model", "state_dict", "model_state_dict")
# Of containers in containers.
_DEEPEST: Final = 3
# What names of a detector's tensors begin with, and a tensor that every one of ours has.
_DETECTORS: Final = ("sed_student.", "sed_teacher.")
_DETECTORS_FIRST: Final = "cnn.cnn.conv0.weight"
# A pickle of names; those of weights have some ten kilobytes.
_MOST_PICKLE_BYTES: Final = 1 << 26


class WeightsContent(NamedTuple):
    """What a file of weights holds.

    Attributes:
        path: the file.
        state: all tensors, under the names of the file.
        cfg: sizes that it states; empty in most.
    """

    path: Path
    state: StateDict
    cfg: Mapping[str, Any]


def read_weights(path: Path) -> WeightsContent:
    """The tensors of a file, on the CPU.

    Raises:
        InputError: it is damaged, cannot be read safely, holds no tensors, or is a detector.
    """
    _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise whatever its bytes spell
        raise _unreadable(path, error) from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: contains a {type(content).__name__}, not weights")
    cfg = content.get("cfg")
    state = _state_of(content, path)
    if not state:
        raise InputError(f"{path}: contains no tensors; give a file of an encoder's weights")
    if any(n.startswith(_DETECTORS) or n.endswith(_DETECTORS_FIRST) for n in state):
        raise _is_detector(path)
    _check_memory(path, state)
    return WeightsContent(path, state, cfg if isinstance(cfg, dict) else {})


def _state_of(content: Mapping[Any, Any], path: Path, depth: int = _DEEPEST) -> StateDict:
    """The tensors of a dictionary, or of the one that it holds in their place; {} if none has any.

    Raises:
        InputError: several hold tensors, under names that do not say which to take.
    """
    inside = {key: value for key, value in content.items() if isinstance(value, dict) and depth}
    for key in _CONTAINERS:
        if key in inside and (found := _state_of(inside.pop(key), path, depth - 1)):
            return found
    if found := _tensors(content):
        return found
    others = {key: found for key, value in inside.items() if (found := _tensors(value))}
    if len(others) > 1:
        raise InputError(
            f"{path}: holds tensors in {count_of(len(others), 'dictionary', 'dictionaries')} "
            f"({', '.join(map(str, others))}); save the one of the encoder alone"
        )
    return next(iter(others.values()), {})


def _tensors(content: Mapping[Any, Any]) -> StateDict:
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _check_archive(path: Path) -> None:
    """Reject archives that are damaged or would expand: torch.save does not compress."""
    if not zipfile.is_zipfile(path):
        return  # the format of torch.save before PyTorch 1.6, or no weights at all
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            packed = [m.filename for m in members if m.compress_type != zipfile.ZIP_STORED]
            claimed = sum(max(m.file_size, m.compress_size) for m in members)
            if packed or claimed > size:
                what = (
                    f"{packed[0]} is compressed"
                    if packed
                    else f"it claims {count_of(claimed, 'byte')} and has {size}"
                )
                raise InputError(f"{path}: not a file of weights: {what}; get it again")
            damaged = archive.testzip()
    except InputError:
        raise
    except Exception as error:  # zipfile raises whatever the bytes of a directory spell
        raise _unreadable(path, error) from None
    if damaged is not None:
        raise InputError(
            f"{path}: not a file of weights: damaged (the checksum of {damaged} is wrong); "
            "get it again"
        )


def _check_memory(path: Path, state: StateDict) -> None:
    """Reject tensors without values, and views that repeat stored bytes and would fill memory."""
    for name, value in state.items():
        if value.layout != torch.strided or value.device.type != "cpu":
            raise InputError(f"{path}: {name}: not a tensor of plain values; get the file again")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise InputError(
                f"{path}: {name}: would fill {count_of(value.numel(), 'value')}, fewer are stored; "
                "get the file again"
            )
    # Tensors may share what is stored, as BEATs' bias tables do; more than that is an attack.
    claimed = sum(value.numel() * value.element_size() for value in state.values())
    if claimed > 2 * path.stat().st_size:
        raise InputError(
            f"{path}: its tensors would fill {count_of(claimed, 'byte')}, but the file has "
            f"{path.stat().st_size}; get it again"
        )


def _unreadable(path: Path, error: Exception) -> InputError:
    if _names_detector(path):
        return _is_detector(path)
    reason = loading_reason(error)
    remedy = ""
    if "more than tensors" in reason:
        # Files of training runs keep their options as Python objects.
        fetch = command_line("generate_dcase_task4_2024.py", "--only_encoders")
        remedy = (
            "; have its state_dict saved alone by who made it, or get released weights with "
            f"{fetch}"
        )
    return InputError(f"{path}: not a file of weights ({reason}){remedy}")


def _is_detector(path: Path) -> InputError:
    return InputError(
        f"{path}: a checkpoint of a detector ({command_name('train_pretrained.py')}), not weights "
        f"of an encoder; give it to {command_name('predict.py')} --checkpoint, and a file of "
        "pretrained weights here"
    )


def _names_detector(path: Path) -> bool:
    """Whether the names in a file that cannot be loaded are those of a detector."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if (
                    member.filename.endswith("/data.pkl")
                    and member.file_size < _MOST_PICKLE_BYTES
                    and member.compress_type == zipfile.ZIP_STORED
                ):
                    return any(name.encode() in archive.read(member) for name in _DETECTORS)
    except Exception:  # zipfile raises whatever the bytes of a directory spell
        return False
    return False
