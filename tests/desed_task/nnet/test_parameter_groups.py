"""Every parameter is in exactly one group, and layers of encoders get the rates of their depth."""

from __future__ import annotations

import pytest

from desed_task.encoders.beats.encoder import BeatsConfig
from desed_task.encoders.beats.model import Beats
from desed_task.encoders.vit.asit import Asit
from desed_task.encoders.vit.atst_frame import AtstFrame
from desed_task.encoders.vit.blocks import BlockSizes
from desed_task.encoders.vit.fpasst import FramePasst
from desed_task.encoders.vit.m2d import M2d
from desed_task.nnet.CRNN import CRNN
from desed_task.nnet.parameter_groups import GroupRates, parameter_groups

SIZES = BlockSizes(64, 128, 12)
BEATS = BeatsConfig(
    encoder_layers=12,
    encoder_embed_dim=64,
    encoder_ffn_embed_dim=64,
    encoder_attention_heads=4,
    embed_dim=32,
    conv_pos=32,
)
MAKERS = {
    "atst_frame": lambda: AtstFrame(SIZES),
    "fpasst": lambda: FramePasst(SIZES),
    "asit": lambda: Asit(SIZES),
    "m2d": lambda: M2d(SIZES),
    "beats": lambda: Beats(BEATS),
}
RATES = GroupRates(cnn=1e-3, rnn=2e-3, heads=3e-3, encoder=4e-3, layer_decay=0.5)
# What stands before the number of a block in the names of its parameters.
BLOCKS = {"m2d": "backbone.blocks", "beats": "encoder.layers"}


def network(**net) -> CRNN:
    return CRNN(nb_filters=[4] * 7, n_RNN_cell=4, embedding_size=16, **net)


def rates_of(groups) -> dict[int, float]:
    """Parameter -> its rate; fails if one is in two groups."""
    found: dict[int, float] = {}
    for group in groups:
        for value in group["params"]:
            assert id(value) not in found, group["name"]
            found[id(value)] = group["lr"]
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_each_layer_of_an_encoder_has_its_rate(name):
    """4e-3 x 2^-i: what is behind the blocks, block 11 ... block 0, what is before them."""
    encoder, crnn = MAKERS[name](), network()
    rates = rates_of(parameter_groups(crnn, {name: encoder.layer_groups()}, RATES))
    assert set(rates) == {id(p) for model in (crnn, encoder) for p in model.parameters()}
    seen = set()
    for parameter_name, value in encoder.named_parameters():
        prefix = BLOCKS.get(name, "blocks")
        block = parameter_name.removeprefix(f"{prefix}.").split(".")[0]
        final = {"norm", "norm_frame"} & {*parameter_name.split(".")[:-1]}
        in_block = parameter_name.startswith(f"{prefix}.")
        depth = 12 - int(block) if in_block else 0 if final else 13
        assert rates[id(value)] == 4e-3 * 0.5**depth, parameter_name
        seen.add(depth)
    assert seen == {*range(0 if name != "beats" else 1, 14)}


@pytest.mark.parametrize("aggregation", ["pool1d", "frame"])
def test_the_network_has_three_groups(aggregation):
    crnn = network(aggregation_type=aggregation)
    groups = parameter_groups(crnn, {}, RATES)
    assert [group["name"] for group in groups] == ["cnn", "rnn", "heads"]
    rates = rates_of(groups)
    for name, value in crnn.named_parameters():
        part = name.split(".")[0]
        expected = {"cnn": 1e-3, "dense": 3e-3, "dense_softmax": 3e-3}.get(part, 2e-3)
        assert rates[id(value)] == expected, name


def test_several_encoders_each_begin_at_the_same_rate():
    encoders = {name: MAKERS[name]() for name in ("atst_frame", "beats")}
    layers = {name: one.layer_groups() for name, one in encoders.items()}
    groups = {g["name"]: g for g in parameter_groups(network(), layers, RATES)}
    assert groups["atst_frame head side"]["lr"] == 4e-3
    assert groups["atst_frame block 1"]["lr"] == groups["beats block 1"]["lr"] == 4e-3 / 2**11
    assert groups["beats block 10"]["lr"] == 4e-3 / 2**2
    assert "beats head side" not in groups
