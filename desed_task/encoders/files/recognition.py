"""Which encoder a file of weights holds, by the names of its tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Final, NamedTuple

from torch import Tensor

from desed_task.encoders.files.reading import WeightsContent
from desed_task.encoders.files.tensors import BESIDE
from desed_task.encoders.interface import Encoder, StateDict
from desed_task.encoders.own import check_class
from desed_task.encoders.registry import EncoderKind, kinds
from desed_task.errors import InputError, warn_once

# Below it, a file holds no encoder that is known.
_LEAST_LIKENESS: Final = 0.5
# What a published prefix counts.
_PUBLISHED: Final = 0.3
# A prefix of fewer tensors is none of an encoder's.
_LEAST_TENSORS: Final = 5
_DEEPEST_PREFIX: Final = 4


class Recognised(NamedTuple):
    """The encoder that tensors belong to.

    Attributes:
        kind: which it is.
        prefix: what stands before its names in the file.
        likeness: from 0 to 1; see `Encoder.is_in`.
    """

    kind: EncoderKind
    prefix: str
    likeness: float

    @property
    def score(self) -> float:
        """Likeness, and more where the prefix is a published one."""
        published = self.prefix in encoder_class(self.kind).prefixes
        return self.likeness + _PUBLISHED * published


def encoder_class(kind: EncoderKind) -> type[Encoder]:
    """The class of an encoder.

    Raises:
        InputError: an entry point names a module or class that cannot be imported, or is not a
            complete encoder.
    """
    module, _, name = kind.place.partition(":")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # code of others can raise anything
        raise InputError(f"encoder {kind.name}: {kind.place} cannot be imported: {error}") from None
    return check_class(kind, found)


def recognise(
    content: WeightsContent, wanted: EncoderKind | None = None, *, anywhere: bool = False
) -> Recognised:
    """The encoder that a file holds, by the names of its tensors.

    Args:
        content: of the file.
        wanted: the encoder that it must hold; None for any.
        anywhere: whether its names may begin as those of another encoder's files do.

    Raises:
        InputError: it holds none that is known, or another one; the message names it.
    """
    found = [one for one in _candidates(content.state, wanted) if one.likeness >= _LEAST_LIKENESS]
    if not found:
        known = ", ".join(kind.title for kind in kinds().values())
        example = ", ".join(list(content.state)[:3])
        raise InputError(
            f"{content.path}: no encoder that is known ({known}) has such tensors ({example} ...)"
        )
    best = max(found, key=lambda one: one.score)
    equals = {one.kind.name: one for one in reversed(found) if one.score == best.score}
    if wanted is not None and wanted.name in equals:
        best = equals[wanted.name]
    elif wanted is not None and best.kind != wanted:
        raise InputError(
            f"{content.path}: holds {best.kind.title}, not {wanted.title}; give the weights of "
            f"{wanted.title}, or name {best.kind.name} as the encoder"
        )
    elif len(equals) > 1:
        names = " and ".join(sorted(equals))
        raise InputError(f"{content.path}: holds several encoders; name one of {names}")
    if not anywhere:
        _check_prefix(content, best)
    return best


def _check_prefix(content: WeightsContent, found: Recognised) -> None:
    """Reject tensors of one encoder below the prefix of another: one of both is a mistake."""
    own = encoder_class(found.kind).prefixes
    for kind, other in _classes():
        if kind != found.kind and found.prefix in other.prefixes and found.prefix not in own:
            raise InputError(
                f"{content.path}: holds tensors of {found.kind.title} below {found.prefix!r}, "
                f"where files have those of {kind.title}; give them names that begin with "
                f"{next(filter(None, own), '')!r}"
            )


def beside_encoder(content: WeightsContent, recognised: Recognised) -> StateDict:
    """The tensors of a file that are not the encoder's, under the names of the file.

    These are heads, sequence models, and with some files further encoders.
    """
    prefix = recognised.prefix
    return {
        name: value
        for name, value in content.state.items()
        if not name.startswith(prefix) or (not prefix and name.startswith(BESIDE))
    }


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> StateDict:
    """The tensors below a prefix, without it."""
    return {k.removeprefix(prefix): value for k, value in state.items() if k.startswith(prefix)}


def _classes(wanted: EncoderKind | None = None) -> Iterator[tuple[EncoderKind, type[Encoder]]]:
    """All encoders; one of another package that cannot be imported is left out with a warning."""
    for kind in kinds().values():
        try:
            yield kind, encoder_class(kind)
        except InputError as error:
            if kind == wanted:
                raise
            warn_once(f"{error}; files of {kind.title} are not recognised")


def _candidates(
    state: Mapping[str, Tensor], wanted: EncoderKind | None = None
) -> Iterator[Recognised]:
    """Every encoder below every prefix, published prefixes first."""
    others = list(_prefixes(state))
    for kind, kind_class in _classes(wanted):
        for prefix in dict.fromkeys((*kind_class.prefixes, *others)):
            part = without_prefix(state, prefix)
            if part:
                yield Recognised(kind, prefix, kind_class.is_in(part))


def _prefixes(names: Iterable[str]) -> Iterator[str]:
    """What several names begin with, as wrappers and other programs put before them."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")[:-1]
        for depth in range(1, min(len(parts), _DEEPEST_PREFIX) + 1):
            if parts[depth - 1].isdigit():
                break
            counts[".".join(parts[:depth]) + "."] += 1
    yield from (prefix for prefix, n in counts.items() if n >= _LEAST_TENSORS)
