"""The CRNN against the published outputs, its fusion and heads against closed forms."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from desed_task.errors import InputError
from desed_task.features import LogMel, Scaler
from desed_task.nnet.CRNN import CRNN, Detection, attend

Parity = Callable[[str], Path]
UNREAD = ("rnn_layers", "median_filter")
TINY = {
    "nclass": 4,
    "n_RNN_cell": 3,
    "kernel_size": (3, 3),
    "padding": (1, 1),
    "stride": (1, 1),
    "nb_filters": (4, 6),
    "pooling": ((2, 4), (2, 2)),
    "embedding_size": 5,
}


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def published(net: dict[str, Any]) -> dict[str, Any]:
    """A published `net` section without the keys that no network reads."""
    return {key: value for key, value in net.items() if key not in UNREAD}


def inputs(n_frames: int = 40) -> tuple[Tensor, Tensor]:
    """(batch, mel, frame) and (batch, feature, token) for TINY."""
    mel = torch.randn(3, 8, n_frames, generator=seeded(1))
    return mel, torch.randn(3, 5, 30, generator=seeded(2))


def assert_detection(found: Detection, expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(found.strong, expected["strong"], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.weak, expected["weak"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("aggregation", ["pool1d", "interpolate", "frame", "none"])
def test_outputs_equal_the_published_ones(parity: Parity, aggregation: str) -> None:
    given = torch.load(parity(f"crnn_{aggregation}.pt"), weights_only=True)
    network = CRNN(**published(given["net"])).eval()
    network.load_state_dict(given["state_dict"])
    assert list(network.state_dict()) == list(given["state_dict"])
    features, embeddings = given["features"].float(), given["embeddings"]
    masks = {"classes_mask": given["classes_mask"]}
    with torch.no_grad():
        assert_detection(network(features, embeddings), given["plain"])
        assert_detection(network(features, embeddings, **masks), given["masked"])
        masks["pad_mask"] = given["pad_mask"]
        assert_detection(network(features, embeddings, **masks), given["masked_padded"])


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_published_checkpoint_fits(parity: Parity, role: str) -> None:
    scalar = np._core.multiarray.scalar
    allowed = [(scalar, f"{core}.multiarray.scalar") for core in ("numpy._core", "numpy.core")]
    with torch.serialization.safe_globals([*allowed, np.dtype, np.dtypes.Float64DType]):
        file = torch.load(parity("reference_tiny.ckpt"), weights_only=True)
    expected = torch.load(parity("reference_tiny_io.pt"), weights_only=True)
    waveform = torch.load(parity("front_end.pt"), weights_only=True)["waveform_int16"] / 32768
    network = CRNN(**published(file["hyper_parameters"]["net"])).eval()
    front_end = LogMel()
    network.load_state_dict(part_of(file["state_dict"], f"sed_{role}."))
    front_end.load_state_dict(part_of(file["state_dict"], "mel_spec."))
    features = Scaler()(front_end.to_db(front_end(waveform)))
    with torch.no_grad():
        assert_detection(network(features, expected["embeddings"].float()), expected[role])


def part_of(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries below `prefix`, without thop's counters."""
    counters = ("total_ops", "total_params")
    return {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if name.startswith(prefix) and not name.endswith(counters)
    }


def test_the_published_network_has_1_79_million_parameters(parity: Parity) -> None:
    net = json.loads(parity("pretrained_values.json").read_text())["net"]
    count = sum(value.numel() for value in CRNN(**published(net)).parameters())
    assert round(count / 1e6, 2) == 1.79
    assert count == sum(value.numel() for value in CRNN().parameters())


@pytest.mark.parametrize("aggregation", ["pool1d", "interpolate", "frame", "global"])
def test_every_aggregation_trains(aggregation: str) -> None:
    network = CRNN(aggregation_type=aggregation, **TINY)
    mel, embeddings = inputs()
    strong, weak = network(mel, embeddings)
    assert (strong.shape, weak.shape) == ((3, 4, 10), (3, 4))
    (strong.sum() + weak.sum()).backward()
    assert all(value.grad is not None for value in network.parameters())


def test_the_global_embedding_is_that_of_all_tokens() -> None:
    network = CRNN(aggregation_type="global", embedding_type="global", **TINY).eval()
    mel, embeddings = inputs()
    tokens, clip = network(mel, embeddings), network(mel, embeddings.mean(-1))
    torch.testing.assert_close(tokens.strong, clip.strong)
    assert not torch.allclose(clip.strong, network(mel, embeddings[..., 0]).strong)


def test_the_frame_encoder_is_read_at_its_last_step() -> None:
    network = CRNN(aggregation_type="frame", **TINY).eval()
    mel, embeddings = inputs()
    read: list[Tensor] = []
    network.shrink_emb.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    network(mel, embeddings)
    steps = network.frame_embs_encoder(embeddings.transpose(1, 2))[0]
    torch.testing.assert_close(read[0], steps[:, -1])


def fused_streams(network: CRNN, seed: int = 0) -> Tensor:
    """(batch, frame, channel + feature) as it reaches `cat_tf`, for inputs without zeroes."""
    seen: list[Tensor] = []
    handle = network.cat_tf.register_forward_pre_hook(lambda _, x: seen.append(x[0].detach()))
    network(*inputs(), generator=seeded(seed))
    handle.remove()
    return seen[0]


def test_time_dropping_is_drawn_for_each_stream() -> None:
    network = CRNN(**{**TINY, "dropout": 0.0, "dropstep_recurrent": 0.9})
    patterns = []
    for seed in range(10):
        zero = fused_streams(network.train(), seed) == 0
        cnn, embedding = zero[..., :6], zero[..., 6:]
        assert torch.equal(cnn.all(-1), cnn.any(-1))
        assert torch.equal(embedding.all(-1), embedding.any(-1))
        patterns.append(torch.stack([cnn.all(-1), embedding.all(-1)]))
    both = torch.stack(patterns)
    assert both.any()
    assert (both[:, 0] != both[:, 1]).any()
    assert not (fused_streams(network.eval()) == 0).any()


def test_training_draws_from_the_generator() -> None:
    network = CRNN(**{**TINY, "dropout": 0.0, "specaugm_t_p": 0.5, "dropstep_recurrent": 0.9})
    first, again, other = (network(*inputs(), generator=seeded(seed)).strong for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_spectrograms_are_masked_on_both_axes_in_training() -> None:
    settings = {"specaugm_t_p": 0.5, "specaugm_t_l": 9, "specaugm_f_p": 0.9, "specaugm_f_l": 6}
    network = CRNN(**TINY, **settings)
    seen: list[Tensor] = []
    network.cnn.register_forward_pre_hook(lambda _, x: seen.append(x[0][:, 0]))
    for seed in range(8):
        network.train()(*inputs(), generator=seeded(seed))
    network.eval()(*inputs(), generator=seeded())
    zero = torch.cat(seen[:-1]) == 0  # (batch, frame, mel)
    frames, bands = zero.all(2), zero.all(1)
    assert 0 < frames.sum(1).max() <= 8
    assert 0 < bands.sum(1).max() <= 5
    assert torch.equal(zero, frames[:, :, None] | bands[:, None, :])
    assert torch.equal(seen[-1], inputs()[0].transpose(1, 2))


def test_without_embeddings_the_stream_is_dropped_and_goes_on() -> None:
    drops = {"dropout": 0.0, "dropstep_recurrent": 0.9, "dropstep_scope": "clip"}
    network = CRNN(**{**TINY, "use_embeddings": False, **drops})
    seen: list[Tensor] = []
    network.rnn.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    network.eval()(inputs()[0])
    network.train()(inputs()[0], generator=seeded(3))
    assert seen[0].shape == (3, 10, 6)
    assert not (seen[0] == 0).any()
    zero = (seen[1] == 0).all(-1)
    assert zero.any()
    assert not zero.all()


@pytest.mark.parametrize("use_embeddings", [True, False])
def test_dropout_comes_before_the_recurrent_part(use_embeddings: bool) -> None:
    settings = {"use_embeddings": use_embeddings, "dropout": 0.5, "dropstep_recurrent": 0.0}
    network = CRNN(**{**TINY, **settings}).train()
    seen: list[Tensor] = []
    fusion = network.cat_tf if use_embeddings else network.rnn
    fusion.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    for _ in range(20):
        network(*inputs())
    # The last features are the embedding's, or the CNN's after its own dropout and pooling of four.
    assert (torch.cat(seen)[..., -3:] == 0).float().mean() == pytest.approx(0.5, abs=0.1)


DROPOUT_CASES = [
    pytest.param(use_embeddings, dropout, dropstep, id=f"{use_embeddings}-{dropout}-{dropstep}")
    for use_embeddings in (True, False)
    for dropout in (0.2, 0.5)
    for dropstep in (0.0, 0.3)
]


@pytest.mark.parametrize(("use_embeddings", "dropout", "dropstep"), DROPOUT_CASES)
def test_as_much_is_dropped_as_in_the_published_network(
    parity: Parity, use_embeddings: bool, dropout: float, dropstep: float
) -> None:
    given = json.loads(parity("crnn_dropout.json").read_text())
    key = (use_embeddings, dropout, dropstep)
    names = ("use_embeddings", "dropout", "dropstep_recurrent")
    (case,) = (c for c in given["cases"] if tuple(c[name] for name in names) == key)
    net = published(given["net"]) | dict(zip(names, key, strict=True))
    torch.manual_seed(0)
    network, generator = CRNN(**net).train(), seeded()
    expected = {name: value["mean"] for name, value in case["zeros_entering"].items()}
    error = {name: value["standard_error"] for name, value in case["zeros_entering"].items()}
    if not use_embeddings and not dropstep:
        # The published network drops nothing out here, a fault; ours does, and pooling pairs of
        # dropped values leaves zeroes behind.
        expected["rnn"], error["rnn"] = dropout + (1 - dropout) * dropout**2, 0.0005
    found = zeros_entering(network, expected, given["clips"], given["runs"], generator)
    for name, share in expected.items():
        # Our own standard error is about theirs.
        assert found[name] == pytest.approx(share, abs=5 * (2 * error[name] ** 2) ** 0.5 + 1e-12)


def zeros_entering(
    network: CRNN, names: Iterable[str], n_clips: int, n_runs: int, generator: Generator
) -> dict[str, float]:
    """Module name -> mean share of exact zeros in its input, over forward passes."""
    shares: dict[str, list[float]] = {name: [] for name in names}
    for name, found in shares.items():
        part = getattr(network, name)
        part = part.rnn if name == "rnn" else part
        part.register_forward_pre_hook(
            lambda _, args, found=found: found.append(float((args[0] == 0).float().mean()))
        )
    for _ in range(n_runs):
        mel = torch.randn(n_clips, 128, 626, generator=generator)
        embeddings = torch.randn(n_clips, 24, 496, generator=generator)
        with torch.no_grad():
            network(mel, embeddings, generator=generator)
    return {name: sum(found) / len(found) for name, found in shares.items()}


@pytest.mark.parametrize("scope", ["batch", "clip"])
def test_the_scope_is_that_of_every_run(scope: str) -> None:
    """One run of frames, tokens' frames or mel bands for the whole batch, or one per clip."""
    shares = {"dropstep_recurrent": 0.9, "specaugm_t_p": 0.9, "specaugm_f_p": 0.9}
    lengths = {"dropstep_recurrent_len": 9, "specaugm_t_l": 30, "specaugm_f_l": 8}
    options = {**TINY, **shares, **lengths, "dropout": 0.0, "dropstep_scope": scope}
    network, generator = CRNN(**options).train(), seeded()
    seen: dict[str, list[Tensor]] = {"cnn": [], "cat_tf": []}
    for name, found in seen.items():
        getattr(network, name).register_forward_pre_hook(
            lambda _, args, found=found: found.append(args[0])
        )
    for _ in range(10):
        network(*inputs(), generator=generator)
    images = torch.stack(seen["cnn"])[:, :, 0] == 0  # (call, clip, frame, mel)
    joined = torch.stack(seen["cat_tf"]) == 0  # (call, clip, frame, channel and feature)
    masks = {
        "frames": images.all(-1),
        "bands": images.all(-2),
        "audio": joined[..., :6].all(-1),
        "embedding": joined[..., 6:].all(-1),
    }
    for name, mask in masks.items():
        assert mask.any(), name
        assert (mask == mask[:, :1]).all() == (scope == "batch"), name
    assert not torch.equal(masks["audio"], masks["embedding"])


def test_attention_is_over_known_classes_and_even_on_padding() -> None:
    logits = torch.randn(1, 3, 4, generator=seeded())
    known = torch.tensor([[True, False, True, True]])
    padding = torch.tensor([[[False, False, True]]])
    attention = attend(logits, known, padding)
    expected = logits[0, :2, [0, 2, 3]].softmax(-1)
    torch.testing.assert_close(attention[0, :2, [0, 2, 3]], expected)
    assert torch.equal(attention[0, :2, 1], torch.full((2,), 1e-7))
    torch.testing.assert_close(attention[0, 2], torch.full((4,), 0.25))


def test_weak_scores_are_strong_ones_weighted_by_attention() -> None:
    network = CRNN(**TINY).eval()
    seen: dict[str, Tensor] = {}
    network.dense_softmax.register_forward_hook(lambda *x: seen.update(logits=x[2].detach()))
    strong, weak = network(*inputs())
    attention = attend(seen["logits"], None, None).transpose(1, 2)
    torch.testing.assert_close(weak, (strong * attention).sum(-1) / attention.sum(-1))


def test_without_attention_weak_scores_are_means() -> None:
    network = CRNN(attention=False, **TINY).eval()
    strong, weak = network(*inputs())
    torch.testing.assert_close(weak, strong.mean(-1))
    assert not any("softmax" in name for name in network.state_dict())


def test_unknown_classes_score_nothing_and_change_no_strong_score() -> None:
    network, known = CRNN(**TINY).eval(), torch.tensor([[True, True, False, True]] * 3)
    plain, masked = network(*inputs()), network(*inputs(), classes_mask=known)
    assert not masked.strong[:, 2].any()
    assert not masked.weak[:, 2].any()
    assert torch.equal(masked.strong[:, [0, 1, 3]], plain.strong[:, [0, 1, 3]])
    assert not torch.allclose(masked.weak[:, 0], plain.weak[:, 0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_masks_work_under_autocast(dtype: torch.dtype) -> None:
    network, known = CRNN(**TINY).eval(), torch.zeros(3, 4, dtype=torch.bool)
    with torch.autocast("cpu", dtype):
        strong, weak = network(*inputs(), classes_mask=known)
    assert (strong.dtype, weak.dtype) == (torch.float32, torch.float32)
    assert torch.isfinite(weak).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rnn_type": "LSTM"}, "net.rnn_type: unknown 'LSTM'; known: BGRU"),
        (
            {"aggregation_type": "mean"},
            "net.aggregation_type: unknown 'mean'; known: pool1d, interpolate, frame, global",
        ),
        ({"embedding_type": "clip"}, "net.embedding_type: unknown 'clip'; known: frame, global"),
        ({"embedding_type": "global"}, "'pool1d' needs net.embedding_type = 'frame'"),
        ({"activation": "gelu"}, "net.activation: unknown 'gelu'"),
        ({"dropstep_scope": "row"}, "net.dropstep_scope: unknown 'row'; known: batch, clip"),
    ],
)
def test_unknown_names_are_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CRNN(**TINY, **arguments)


def test_other_mel_bands_are_refused_with_both_numbers() -> None:
    mel, embeddings = inputs()
    with pytest.raises(InputError, match=r"mel of shape \(3, 6, 40\).* does not have the 8 bands"):
        CRNN(**TINY)(mel[:, :6], embeddings)


def test_other_embeddings_are_refused_with_both_numbers() -> None:
    mel, embeddings = inputs()
    with pytest.raises(InputError, match=r"shape \(3, 4, 30\).*net.embedding_size = 5"):
        CRNN(**TINY)(mel, embeddings[:, :4])
