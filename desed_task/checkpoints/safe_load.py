"""Load checkpoint files from untrusted sources without running code from them.

    checkpoint = load_safely(Path("epoch=259-step=30680.ckpt"))

Before torch reads a file, its zip directory and its pickle are checked: members that are
compressed, claim more bytes than the file has or fail their checksum are rejected, and so are names
of anything but tensors and plain values. The rest is loaded with `weights_only`.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from encodings import normalize_encoding
from encodings.aliases import aliases
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from desed_task.checkpoints.file_kind import REMEDY, check_checkpoint_file
from desed_task.checkpoints.published_stages import (
    checkpoint_of_stage,
    is_stage_file,
    stage_tensors,
)
from desed_task.checkpoints.state_names import (
    FIRST,
    NETWORK_PREFIXES,
    bare_state,
    has_event_head,
    usual_names,
    without_counters,
)
from desed_task.encoders.files.reading import WeightsContent
from desed_task.encoders.files.recognition import recognise
from desed_task.errors import InputError, command_name, count_of, loading_reason


class _Float64Type:
    """Replaces numpy's float64 dtype while a file is read; every other dtype is rejected."""

    def __init__(self, code: str, *_flags: bool) -> None:
        if code != "f8":
            raise pickle.UnpicklingError(f"a numpy value of type {code!r}")
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _float64(kind: _Float64Type, content: bytes) -> float:
    """Replaces numpy's `scalar`."""
    if not isinstance(kind, _Float64Type):
        raise pickle.UnpicklingError("a numpy scalar without its type")
    value: float = struct.unpack(f"{kind.order}d", content)[0]
    return value


# All that published checkpoints need of numpy, under the names that its versions have used.
_NUMPY: Final[dict[str, Callable[..., Any]]] = {
    "numpy._core.multiarray.scalar": _float64,
    "numpy.core.multiarray.scalar": _float64,
    "numpy.dtype": _Float64Type,
    "numpy.dtypes.Float64DType": _Float64Type,
}
# Size of files that are not read as a whole, bytes: those with encoders of usual sizes.
_MAPPED_FROM: Final = 1 << 28
# How often what is stored may be named.
_MOST_SHARED: Final = 2
# Keys under which files of encoders have their tensors.
_PLACES: Final = ("state_dict", "model_state_dict", "model")
_PLAIN: Final = {
    "collections.OrderedDict",
    "_codecs.encode",  # bytes, in the oldest of the pickle protocols that torch writes
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    "torch.device",
}


def load_safely(path: Path) -> dict[str, Any]:
    """The content of a Lightning checkpoint, on the CPU, thop's counters dropped.

    numpy's float64 scalars become Python floats.

    Raises:
        InputError: for a file that is missing, damaged or smaller than its tensors, that asks for
            more than tensors and plain values, or that is not a checkpoint of a detector.
    """
    return checked_content(read_safely(path), path)


def read_safely(path: Path) -> Any:
    """Whatever a file of torch.save holds, on the CPU; see `load_safely`.

    Raises:
        InputError: for a file that is missing or damaged, or that asks for more than tensors and
            plain values.
    """
    check_checkpoint_file(path)
    asked = _requested_names(_checked_pickle(path), path)
    foreign = sorted(name for name in asked if not _is_known(name))
    if foreign:
        raise InputError(
            f"{path}: not a checkpoint that can be loaded safely: it asks for "
            f"{', '.join(foreign[:5])}, which tensors and plain values do not need; {REMEDY}"
        )
    # Of a large file, tensors stay on disk until they are copied into a network, and those of an
    # optimizer for good. A file is not to be overwritten meanwhile; ours are replaced as a whole.
    mapped = path.stat().st_size >= _MAPPED_FROM
    try:
        with torch.serialization.safe_globals([(kind, name) for name, kind in _NUMPY.items()]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged pickle can raise whatever its bytes spell
        raise _unsafe(path, error) from None


def _unsafe(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: not a checkpoint that can be loaded safely ({loading_reason(error)}); it may be "
        f"truncated or contain Python objects: {REMEDY}"
    )


def _checked_pickle(path: Path) -> bytes:
    """The pickle in a file of torch.save, after all members were checked."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            pickles = [m for m in members if m.filename.count("/") == 1 and _is_pickle(m)]
            if len(pickles) != 1 or archive.comment:
                raise InputError(_not_torch(path, [member.filename for member in members]))
            _check_sizes(path, members, size)
            damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
            return archive.read(pickles[0])
    except InputError:
        raise
    except Exception as error:  # zipfile raises whatever the bytes of a directory spell
        raise _unsafe(path, error) from None


def _is_pickle(member: zipfile.ZipInfo) -> bool:
    return member.filename.endswith("/data.pkl")


def _not_torch(path: Path, names: list[str]) -> str:
    inside = [name for name in names if name.endswith(".ckpt")]
    if inside:
        return f"{path}: an archive; unpack it and give the checkpoint in it: {inside[0]}"
    return f"{path}: a zip archive, but not one of torch.save; give the path of a .ckpt file"


def _check_sizes(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    """Reject archives that would expand: torch.save stores its members uncompressed."""
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    claimed = sum(max(member.file_size, member.compress_size) for member in members)
    if packed or claimed > size:
        what = (
            f"{packed[0]} is compressed"
            if packed
            else f"its members claim {count_of(claimed, 'byte')}"
        )
        raise InputError(
            f"{path}: not a checkpoint that can be loaded safely: {what}, the file has "
            f"{count_of(size, 'byte')} and torch.save does not compress; {REMEDY}"
        )
    names = [member.filename for member in members]
    twice = {name for name in names if names.count(name) > 1} if len({*names}) < len(names) else ()
    if twice:
        raise InputError(
            f"{path}: not a checkpoint that can be loaded safely: it contains {sorted(twice)[0]} "
            f"twice; {REMEDY}"
        )


def _requested_names(content: bytes, path: Path) -> set[str]:
    """Dotted names of everything that a pickle would import; nothing is run."""
    names, codecs = set(), set()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "GLOBAL":
                names.add(str(argument).replace(" ", "."))
            elif opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "OBJ", "NEWOBJ"):
                names.add(f"objects ({opcode.name})")
            elif isinstance(argument, str) and _is_bytes_codec(argument):
                codecs.add(f"_codecs.encode to {argument}")
    except Exception as error:  # whatever the bytes spell
        raise _unsafe(path, error) from None
    return names | codecs if "_codecs.encode" in names else names


def _is_bytes_codec(codec: str) -> bool:
    """Whether a codec turns bytes into bytes: applied repeatedly, hex would fill the memory."""
    name = normalize_encoding(codec).lower()
    return aliases.get(name, name).endswith("_codec")


def _is_known(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    return (
        name in _PLAIN
        or name in _NUMPY
        or (module == "torch" and attribute.endswith("Storage"))
        or (module == "torch" and isinstance(getattr(torch, attribute, None), torch.dtype))
    )


def checked_content(content: Any, path: Path) -> dict[str, Any]:
    """What `read_safely` gives, if it is a checkpoint of a detector of ours; see `load_safely`.

    Raises:
        InputError: it is another kind of file; the message says which, if it is known.
    """
    if not isinstance(content, dict):
        raise InputError(f"{path}: contains a {type(content).__name__}, not a checkpoint; {REMEDY}")
    if is_stage_file(content):
        of_roles = stage_tensors(content, str(path)).items()
        tensors = {f"{role}.{n}": value for role, state in of_roles for n, value in state.items()}
        _check_claims(tensors, path)
        return checkpoint_of_stage(content, path)
    if has_event_head(content):
        raise InputError(
            f"{path}: a detector of AudioSet's classes, which only {command_name('predict.py')} "
            f"takes; give a checkpoint of {command_name('train_pretrained.py')} here"
        )
    if title := _encoder_in(content, path):
        raise InputError(
            f"{path}: contains weights of {title}, not a detector; name it in "
            f"pretrained.checkpoint and give a .ckpt of {command_name('train_pretrained.py')} here"
        )
    state = content.get("state_dict")
    if not isinstance(state, dict):
        state = bare_state(content)
        if state is None:
            raise InputError(
                f"{path}: contains no state_dict; give a checkpoint of "
                f"{command_name('train_pretrained.py')}"
            )
        content = {}
    wrong = [name for name, value in state.items() if not _is_tensor(name, value)]
    if wrong:
        raise InputError(f"{path}: state_dict: {wrong[0]!r} is not a tensor; {REMEDY}")
    _check_claims(state, path)
    named = usual_names(without_counters(state), str(path))
    checked: dict[str, Any] = {**content, "state_dict": named}
    for key in NETWORK_PREFIXES:
        if isinstance(checked.get(key), dict):
            checked[key] = without_counters(checked[key])
    return checked


def _check_claims(state: Mapping[str, Tensor], path: Path) -> None:
    """Reject views that repeat a few stored bytes: they would fill the memory once they are used.

    Encoders of student and teacher that were not trained may be stored once, as may a table that
    layers share.
    """
    claimed = sum(value.numel() * value.element_size() for value in state.values())
    if claimed > _MOST_SHARED * path.stat().st_size:
        raise InputError(
            f"{path}: its tensors would fill {count_of(claimed, 'byte')}, but the file has "
            f"{path.stat().st_size}; {REMEDY}"
        )


def _encoder_in(content: Mapping[str, Any], path: Path) -> str:
    """Title of the encoder whose weights a file holds; "" for detectors and unknown files."""
    places = [content, *(content[key] for key in _PLACES if isinstance(content.get(key), dict))]
    tensors = [
        {name: value for name, value in place.items() if _is_tensor(name, value)}
        for place in reversed(places)
    ]
    state = next(filter(None, tensors), {})
    if not state or any(name.endswith(FIRST) for name in state):
        return ""
    try:
        return recognise(WeightsContent(path, state, {})).kind.title
    except InputError:
        return ""


def _is_tensor(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)
