"""Operations and parameters of the published network, counted without a trace in it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from desed_task.nnet.CRNN import CRNN
from local.config import load_config
from local.training.macs import count_macs

CONF = Path(__file__).resolve().parents[3] / "confs" / "pretrained.yaml"


@pytest.fixture(scope="module")
def counted():
    config = load_config(CONF, ["net.embedding_size=768"])
    network = CRNN(**config.net.model_dump(exclude={"median_filter"}))
    before = set(network.state_dict())
    return network, before, count_macs(network, config)


def test_the_published_network_has_1_79_million_parameters_and_1_04_gmacs(counted):
    network, _, cost = counted
    assert cost.parameters == sum(p.numel() for p in network.parameters())
    assert cost.parameters / 1e6 == pytest.approx(1.79, abs=0.005)
    assert cost.macs / 1e9 == pytest.approx(1.04, abs=0.02)


def test_no_counter_stays_in_the_network(counted):
    network, before, _ = counted
    assert set(network.state_dict()) == before
    assert not any(hasattr(module, "total_ops") for module in network.modules())


def test_tokens_are_those_of_the_stored_embeddings():
    """A recurrent layer over them costs as much as they are."""
    sets = ["net.embedding_size=64", "net.aggregation_type=frame"]
    config = load_config(CONF, sets)
    network = CRNN(**config.net.model_dump(exclude={"median_filter"}))
    reader = SimpleNamespace(n_tokens=62)
    few = count_macs(network, config, readers=[None, reader])
    many = count_macs(network, config)
    cells = 2 * 3 * 512 * (64 + 512)
    assert many.macs - few.macs == pytest.approx((496 - 62) * cells, rel=0.02)
