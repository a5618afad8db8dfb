"""The arithmetic of the projection to several GPUs."""

from __future__ import annotations

import math

import pytest

from benchmarks import scaling
from benchmarks.scaling import Messages, all_reduce_s, messages_of, training
from local.config import load_config


@pytest.fixture(scope="module")
def messages() -> Messages:
    return messages_of(load_config(scaling.CONFIG))


def test_a_sum_takes_the_faster_of_ring_and_tree():
    # Two GPUs send each other half of the bytes, twice.
    assert all_reduce_s(1e9, 2) == pytest.approx(2 * (20e-6 + 0.5e9 / 25e9))
    # However many there are, a ring moves less than twice the bytes over each link.
    assert all_reduce_s(1e12, 64) == pytest.approx(2 * 63 / 64 * 1e12 / 25e9, rel=1e-4)
    # Of a short message the latency is left: of a tree that of its levels, up and down.
    assert all_reduce_s(0, 64) == pytest.approx(2 * 6 * 20e-6)
    for n_bytes in (1, 1e3, 1e6, 1e9):
        times = [all_reduce_s(n_bytes, n) for n in (2, 4, 8, 16, 64, 256)]
        assert times == sorted(times)


def test_what_is_added_up_follows_from_the_network(messages):
    # Published channels: 16, 32, 64 and four times 128.
    channels = (16, 32, 64, 128, 128, 128, 128)
    assert messages.norm_layers == len(channels)
    assert messages.norm_bytes == 4 * (6 * sum(channels) + 2 * len(channels))
    assert messages.gradient_bytes == 4 * messages.parameters
    assert messages.seconds(1) == 0.0
    norms = 21 * all_reduce_s(messages.norm_bytes / 21, 8)
    assert messages.seconds(8) == pytest.approx(all_reduce_s(messages.gradient_bytes, 8) + norms)


def test_a_step_takes_as_long_as_launches_until_arithmetic_takes_longer(messages, monkeypatch):
    one, split, more = (
        training(*chosen, messages) for chosen in ((1, "total"), (8, "total"), (8, "process"))
    )
    assert (one.step_s, one.clips, split.clips, more.clips) == (scaling.STEP_S, 60, 60, 480)
    assert split.step_s == more.step_s == pytest.approx(scaling.STEP_S + messages.seconds(8))
    assert split.clips_per_s < one.clips_per_s < more.clips_per_s < 8 * one.clips_per_s
    assert one.epoch_s == pytest.approx(118 * scaling.STEP_S)
    assert more.loading == pytest.approx(more.clips_per_s * scaling.PACKED_BYTES)
    far = training(64, "process", messages)
    assert far.loading == pytest.approx(far.clips_per_s * scaling.PACKED_BYTES / 8)
    monkeypatch.setattr(scaling, "ARITHMETIC_S", 0.2)  # a larger network
    one, split = training(1, "total", messages), training(8, "total", messages)
    assert one.step_s == 0.2 and split.step_s == pytest.approx(
        max(scaling.STEP_S, 0.2 * math.ceil(60 / 8) / 60) + messages.seconds(8)
    )


def test_it_prints_the_tables(capsys):
    assert scaling.main() == 0
    told = capsys.readouterr().out
    assert told.count("| 64 |") == 2 and "times one GPU" in told and "30,000 clips" in told
