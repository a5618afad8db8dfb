"""Load the tensors of a file into an encoder, and say what does not fit or is left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, TypeVar

import torch
from torch import Tensor

from desed_task.encoders.interface import Encoder, Origin
from desed_task.errors import InputError, count_of, warn_once

# Tensors beside an encoder's in files without a prefix: heads, sequence models, front ends.
BESIDE: Final = ("strong_head.", "weak_head.", "seq_model.", "predictor.", "head.", "atst_mel.")
_MOST_NAMED: Final = 5
_MOST_LAYERS: Final = 256
AnyEncoder = TypeVar("AnyEncoder", bound=Encoder)


def encoder_of_tensors(
    make: Callable[[], AnyEncoder], state: Mapping[str, Tensor], origin: str, title: str
) -> AnyEncoder:
    """An encoder with the tensors of a file, in its precision; unknown ones that are left are told.

    Args:
        make: makes the encoder. It is called first without memory for values, as what a file says
            of sizes may be wrong.
        state: tensors under the encoder's names.
        origin: name of the file for messages.
        title: the encoder for messages.

    Raises:
        InputError: naming all tensors that are missing, have another shape or are not finite.
    """
    with torch.device("meta"):
        expected = make()
    own = expected.state_dict()
    check_encoder_tensors(own, state, origin, title)
    warn_of_rest(state, own, origin, title, expected.unused)
    encoder = make()
    encoder.load_state_dict({name: state[name] for name in own})
    return encoder


def n_layers_of(numbers: Collection[int], origin: str) -> int:
    """Number of layers in a file, from their numbers in names of tensors.

    Raises:
        InputError: no encoder has so many; an odd name would otherwise fill the memory.
    """
    n_layers = max(numbers, default=-1) + 1
    if n_layers > _MOST_LAYERS:
        raise InputError(
            f"{origin}: names a layer number {n_layers - 1}; encoders have at most {_MOST_LAYERS}"
        )
    return n_layers


def check_encoder_tensors(
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    origin: str,
    title: str,
    hint: str = "",
) -> None:
    """Reject tensors that are not those of an encoder.

    Args:
        expected: tensors with the names and shapes that it has.
        state, origin, title: see `encoder_of_tensors`.
        hint: what else the message says.

    Raises:
        InputError: naming all tensors that are missing, have another shape or are not finite, as
            the file has them where `origin` is an `Origin`.
    """
    found = {name: _problem(value, state.get(name)) for name, value in expected.items()}
    in_file = origin.in_file if isinstance(origin, Origin) else str
    problems = [f"{in_file(name)} {problem}" for name, problem in found.items() if problem]
    if problems:
        raise InputError.collect(problems, f"{origin}: not a complete {title}{hint}:")


def warn_of_rest(
    state: Mapping[str, Tensor],
    used: Iterable[str],
    origin: str,
    title: str,
    unused: tuple[str, ...] = (),
) -> None:
    """Warn of tensors that are neither used nor known to be unused.

    Args:
        state, origin, title: see `encoder_of_tensors`.
        used: names that are.
        unused: beginnings of names that are known not to be.
    """
    known = {*used}
    left = [n for n in state if n not in known and not n.startswith((*BESIDE, *unused))]
    if left:
        more = ", ..." if len(left) > _MOST_NAMED else ""
        warn_once(
            f"{origin}: {count_of(len(left), 'tensor')} that {title} has no use for, ignored: "
            f"{', '.join(left[:_MOST_NAMED])}{more}"
        )


def _problem(own: Tensor, found: Tensor | None) -> str:
    """What is wrong with a tensor of a file; "" if nothing is."""
    if found is None:
        return "is missing"
    if found.shape != own.shape:
        return f"has shape {tuple(found.shape)}, not {tuple(own.shape)}"
    if not found.is_floating_point():
        return f"has type {str(found.dtype).removeprefix('torch.')}, not floating point"
    return "" if bool(found.to(torch.float32).isfinite().all()) else "is not finite"
