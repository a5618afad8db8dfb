"""Archives are split into parts that differ by less than a recording, the same ones every time."""

from __future__ import annotations

import argparse
import random

import pytest

from local.predict.archives.shards import Shard, shard_words, split


@pytest.mark.parametrize("n_parts", [1, 2, 3, 64])
@pytest.mark.parametrize("kind", ["alike", "varied", "one long", "empty", "few"])
def test_no_part_exceeds_the_mean_by_the_longest_recording(kind, n_parts):
    draw = random.Random(n_parts)
    lengths = {
        "alike": [10_000] * 997,
        "varied": [int(draw.lognormvariate(9, 2)) for _ in range(1000)],
        "one long": [3_600_000, *[draw.randrange(1, 20_000) for _ in range(500)]],
        "empty": [0] * 130,
        "few": [5, 7],
    }[kind]
    parts = split(lengths, n_parts)
    assert len(parts) == len(lengths) and set(parts) <= set(range(n_parts))
    sums = [0] * n_parts
    for length, part in zip(lengths, parts, strict=True):
        sums[part] += max(1, length)
    assert max(sums) - sum(sums) / n_parts <= max(lengths) or kind == "empty"
    assert max(sums) - min(sums) <= max(1, *lengths)
    assert split(lengths, n_parts) == parts


def test_a_long_recording_that_comes_last_is_outweighed():
    lengths = [10] * 100 + [1000]
    parts = split(lengths, 2)
    assert parts.count(parts[-1]) == 1  # alone against a hundred


def test_more_parts_than_recordings_and_none_at_all():
    assert sorted(split([4, 4, 4], 5)) == [0, 1, 2]
    assert split([], 3) == []
    assert split([2, 1], 10**15) == [0, 1]  # mistyped


@pytest.mark.parametrize(
    ("text", "shard"), [("1/1", (1, 1)), ("3/64", (3, 64)), (" 64 / 64 ", (64, 64))]
)
def test_shards_count_from_1(text, shard):
    assert shard_words(text) == Shard(*shard)
    assert str(Shard(*shard)) == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0/64", "0/64: shards of 64 count from 1 to 64; give the number"),
        ("65/64", "65/64: shards of 64 count from 1 to 64"),
        ("3/0", "3/0: no archive has 0 shards"),
        *((text, f"{text}: is not a shard") for text in ("a/b", "3", "-1/4", "1/2/3", "٣/٤", "")),
    ],
)
def test_what_is_not_a_shard_is_refused(text, told):
    with pytest.raises(argparse.ArgumentTypeError, match=told):
        shard_words(text)
