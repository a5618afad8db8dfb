"""Check encoders of other packages: what they lack is said where they are loaded."""

from __future__ import annotations

import torch

from desed_task.encoders.interface import Encoder, EncoderWeights
from desed_task.encoders.registry import EncoderKind
from desed_task.errors import InputError

_GUIDE = "see docs/encoders.md"
# Long enough for a token of every encoder.
_TRIED_S = 2.0


def check_class(kind: EncoderKind, found: object) -> type[Encoder]:
    """Reject what is registered and is no complete encoder.

    Args:
        kind: as registered.
        found: what stands at its place.

    Raises:
        InputError: it is not a class of `Encoder`, lacks methods, or has another name.
    """
    what = f"encoder {kind.name}: {kind.place}"
    if not (isinstance(found, type) and issubclass(found, Encoder)):
        raise InputError(f"{what} is not a class derived from desed_task.encoders.Encoder")
    lacking = sorted(found.__abstractmethods__)
    if found.is_in.__func__ is Encoder.is_in.__func__ and not found.telling:  # type: ignore[attr-defined]
        lacking.append("telling")
    if lacking:
        raise InputError(f"{what} lacks {', '.join(lacking)}; {_GUIDE}")
    if getattr(found, "name", None) != kind.name:
        raise InputError(
            f"{what} has the name {getattr(found, 'name', None)!r}; give its class and its entry "
            "point one name"
        )
    return found


def made_of(encoder: type[Encoder], weights: EncoderWeights, *, own_state: bool = False) -> Encoder:
    """The encoder of a file's tensors.

    Args:
        encoder: its class.
        weights: the tensors.
        own_state: whether they are those of `state_dict`, as checkpoints hold them.

    Raises:
        InputError: its code fails with them, or does not give an encoder.
    """
    try:
        made = (encoder.from_state if own_state else encoder.from_weights)(weights)
    except InputError:
        raise
    except Exception as error:  # code of others can raise anything
        raise InputError(
            f"{weights.origin}: {encoder.name} cannot be made of these tensors: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, encoder):
        raise InputError(
            f"encoder {encoder.name}: {'from_state' if own_state else 'from_weights'} gives "
            f"{type(made).__name__}; {_GUIDE}"
        )
    return made


def check_output(encoder: Encoder) -> None:
    """Reject an encoder whose tokens are not those that it announces.

    Raises:
        InputError: stating both shapes.
    """
    n_samples = round(_TRIED_S * encoder.sample_rate)
    try:
        _ = encoder.layers
        with torch.no_grad():
            tokens = encoder.eval()(torch.zeros(1, n_samples))
        announced = (1, encoder.n_tokens(n_samples), encoder.width)
    except Exception as error:  # code of others can raise anything
        raise InputError(
            f"encoder {encoder.name}: fails on {_TRIED_S:g} s of silence: "
            f"{type(error).__name__}: {error}; {_GUIDE}"
        ) from error
    if tuple(tokens.shape) != announced:
        raise InputError(
            f"encoder {encoder.name}: gives tokens of shape {tuple(tokens.shape)} for "
            f"{_TRIED_S:g} s, and n_tokens and width say {announced}; {_GUIDE}"
        )
