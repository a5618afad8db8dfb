"""Split recordings into shards of nearly equal duration (`--shard 3/64`)."""

from __future__ import annotations

import argparse
import heapq
import re
from collections.abc import Sequence
from typing import NamedTuple

_REMEDY = "give the number of this shard, counted from 1, and how many there are, such as 3/64"


class Shard(NamedTuple):
    """One part of an archive, which one task of an array processes.

    Attributes:
        number: of the part, counted from 1.
        total: number of parts.
    """

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


def shard_words(text: str) -> Shard:
    """The shard of `3/64`, for `argparse`."""
    found = re.fullmatch(r"\s*([0-9]+)\s*/\s*([0-9]+)\s*", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: is not a shard; {_REMEDY}")
    shard = Shard(int(found[1]), int(found[2]))
    if not shard.total:
        raise argparse.ArgumentTypeError(f"{text}: no archive has 0 shards; {_REMEDY}")
    if not 1 <= shard.number <= shard.total:
        raise argparse.ArgumentTypeError(
            f"{text}: shards of {shard.total} count from 1 to {shard.total}; {_REMEDY}"
        )
    return shard


def split(lengths: Sequence[int], n_parts: int) -> list[int]:
    """Assign items to parts whose sums are nearly equal: the longest first, to the emptiest part.

    No part exceeds the mean by the longest item or more. The same lengths give the same parts.

    Args:
        lengths: of the items, in milliseconds for example; 0 counts as 1.
        n_parts: number of parts.

    Returns:
        The part of each item, counted from 0.
    """
    parts = [0] * len(lengths)
    # Further parts stay empty, and a mistyped number must not fill the memory.
    sums = [(0, part) for part in range(min(n_parts, len(lengths)))]
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        total, part = sums[0]
        heapq.heapreplace(sums, (total + max(1, lengths[item]), part))
        parts[item] = part
    return parts
