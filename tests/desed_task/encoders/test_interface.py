"""What every encoder offers, on small ones with random weights."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from desed_task.encoders.interface import Encoder
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.random_weights import PUBLISHED_PREFIXES, write_random_encoder
from desed_task.errors import InputError

NAMES = tuple(PUBLISHED_PREFIXES)
# The fewest samples that give a token.
SHORTEST = {"atst_frame": 513, "fpasst": 258, "asit": 2800, "m2d": 201, "beats": 2800}
RATE = 16000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    for name in NAMES:
        write_random_encoder(folder / f"{name}.pt", name, seed=2, width=64)
    return {name: folder / f"{name}.pt" for name in NAMES}


@pytest.fixture(scope="module")
def loaded(files: dict[str, Path]) -> dict[str, Encoder]:
    """One of each for tests that change nothing."""
    return {name: load_encoder(path) for name, path in files.items()}


def noise(n_clips: int, n_samples: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(n_clips, n_samples, generator=generator)


def draws(name: str) -> list[int]:
    """Odd lengths from the shortest to 25 s, and those around pieces of 10 s."""
    rng = random.Random(name)
    some = [rng.randrange(SHORTEST[name], 25 * RATE) for _ in range(12)]
    edges = [k * 160160 + d for k in (1, 2) for d in (-641, -321, -161, -160, -1, 0, 1, 160, 641)]
    return [SHORTEST[name], SHORTEST[name] + 1, 5000, 160000, 37 * 2560 + 240, *edges, *some]


@pytest.mark.parametrize("name", NAMES)
def test_number_of_tokens(name, loaded):
    one = copy.deepcopy(loaded[name]).stop_after(1)
    for n_samples in draws(name):
        found = one(torch.zeros(1, n_samples))
        assert found.shape == (1, one.n_tokens(n_samples), one.width), n_samples
        assert found.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_too_few_samples(name, loaded):
    encoder, shortest = loaded[name], SHORTEST[name]
    for n_samples in (0, 1, 160, shortest - 1):
        assert encoder.n_tokens(n_samples) == 0
        with pytest.raises(ValueError, match=rf"^{n_samples} samples are too few"):
            encoder(torch.zeros(2, n_samples))
    with pytest.raises(ValueError, match=r"shape \(5000,\), not \(batch, sample\)"):
        encoder(torch.zeros(5000))
    # Alone, the front end needs a frame or what it reflects.
    with pytest.raises(ValueError, match=r"^100 samples"):
        encoder.front_end(torch.zeros(1, 100))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_clips(name, loaded):
    waveform = noise(3, 33333) * torch.tensor([[1.0], [1e-4], [0.0]])
    whole = loaded[name](waveform)
    for row, clip in zip(whole, waveform, strict=True):
        torch.testing.assert_close(loaded[name](clip[None])[0], row, rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_all", [40000, 200003])
def test_padding_makes_no_difference(name, n_all, loaded):
    """Nor where a whole piece of a long input is padding."""
    encoder = loaded[name]
    n_samples = torch.tensor([30007, n_all, 5000])
    zeros, loud = noise(3, n_all), noise(3, n_all)
    for row, n in enumerate(n_samples):
        zeros[row, n:] = 0
        loud[row, n:] = noise(1, n_all - n, seed=3) * 20
    loud[2, -1] = float("nan")
    first, second = encoder(zeros, n_samples), encoder(loud, n_samples)
    assert first.isfinite().all()
    for row, n in enumerate(n_samples.tolist()):
        n_valid = encoder.n_tokens(n)
        assert torch.equal(first[row, :n_valid], second[row, :n_valid])
    # Nor does the mask of one clip change another.
    torch.testing.assert_close(first[1], encoder(zeros[1:2])[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_too_short_for_a_token_among_others(name, loaded):
    tokens = loaded[name](noise(2, 16000), torch.tensor([16000, 100]))
    assert bool(tokens.isfinite().all())
    assert torch.allclose(tokens[:1], loaded[name](noise(2, 16000)[:1]), atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_among_padding_is_the_clip_alone(name, loaded):
    """To its last token, whatever its rest of a token is, beside louder clips."""
    encoder = loaded[name]
    lengths = (30007, 99999, 50000, 31000, 31160, 31320, 50000)
    clips = [noise(1, n, seed=n) * 10 ** (-i / 2) for i, n in enumerate(lengths)]
    batch = torch.cat([torch.cat([c, noise(1, 99999 - c.shape[1])], dim=1) for c in clips])
    found = encoder(batch, torch.tensor(lengths))
    for row, clip in zip(found, clips, strict=True):
        alone = encoder(clip)[0]
        torch.testing.assert_close(row[: len(alone)], alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_mask_keeps_attention_from_padding(name, loaded):
    waveform = noise(1, 40000)
    waveform[:, 20000:] = 0
    with_mask = loaded[name](waveform, torch.tensor([20000]))
    n_valid = loaded[name].n_tokens(20000)
    assert (with_mask[:, :n_valid] - loaded[name](waveform)[:, :n_valid]).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_stop_after(name, files):
    whole = load_encoder(files[name])
    stopped = load_encoder(files[name], n_blocks=1)
    assert len(stopped.layers) == 1
    assert stopped.n_parameters() < whole.n_parameters()
    assert not torch.equal(stopped(noise(1, 9000)), whole(noise(1, 9000)))
    for wrong in (0, 3):
        with pytest.raises(InputError, match=rf"{name}: stopping after {wrong} blocks; give 1 to"):
            whole.stop_after(wrong)
    assert torch.equal(whole.stop_after(1)(noise(1, 9000)), stopped(noise(1, 9000)))


@pytest.mark.parametrize("name", NAMES)
def test_layer_groups(name, tmp_path):
    write_random_encoder(tmp_path / "deep.pt", name, seed=1, width=64, n_blocks=12)
    encoder = load_encoder(tmp_path / "deep.pt")
    groups = encoder.layer_groups()
    assert [group.name for group in groups] == [
        "head side",
        *(f"block {number}" for number in range(11, -1, -1)),
        "embedding",
    ]
    grouped = [id(p) for group in groups for p in group.parameters]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in encoder.parameters()}
    for number in (1, 10):
        block = groups[12 - number]
        assert {id(p) for p in block.parameters} == {
            id(p) for p in encoder.layers[number].parameters()
        }
    assert bool(groups[0].parameters) == (name != "beats")  # which has no norm behind its layers


@pytest.mark.parametrize("name", NAMES)
def test_gradient_checkpointing_gives_the_same_gradients(name, files):
    found = []
    for checkpointing in (False, True):
        encoder = load_encoder(files[name]).requires_grad_(True).train()
        encoder.gradient_checkpointing = checkpointing
        tokens = encoder(noise(2, 20000), torch.tensor([20000, 9000]))
        (tokens * torch.linspace(-1, 1, encoder.width)).sum().backward()
        found.append([p.grad for p in encoder.parameters()])
    for plain, checkpointed in zip(*found, strict=True):
        torch.testing.assert_close(checkpointed, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_differences(name, files):
    """Along one random direction in all parameters, in float64."""
    encoder = load_encoder(files[name]).double().requires_grad_(True)
    waveform = noise(1, 7000).double()
    with torch.no_grad():
        features = encoder.front_end(waveform)
    weights = torch.randn(encoder.width, generator=torch.Generator().manual_seed(1)).double()

    def loss() -> Tensor:
        return (encoder.tokens(features) * weights).square().mean()

    loss().backward()
    generator = torch.Generator().manual_seed(2)
    directions = [
        torch.randn(p.shape, generator=generator).double() * p.detach().abs().mean().add(0.01)
        for p in encoder.parameters()
    ]
    parameters = list(encoder.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
    expected = sum(float((p.grad * d).sum()) for p, d in zip(parameters, directions, strict=True))
    step, values = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d, alpha=sign * step)
            values.append(float(loss()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_close(name, loaded):
    waveform = noise(2, 30000)
    expected = loaded[name](waveform)
    with torch.autocast("cpu", torch.bfloat16):
        found = loaded[name](waveform).float()
        features = loaded[name].front_end(waveform)
    # Front ends stay in float32: their sums would lose faint bands.
    torch.testing.assert_close(features, loaded[name].front_end(waveform), rtol=0, atol=1e-6)
    correlation = torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1]
    assert correlation > 0.999
    assert found.shape == expected.shape


def test_a_bias_that_is_trained_is_not_kept(files):
    """After a validation without gradients, the table still gets its gradient, and changes."""
    beats = load_encoder(files["beats"]).requires_grad_(True)
    table = beats.encoder.position_bias.table.weight
    waveform = noise(1, 9000)
    with torch.no_grad():
        before = beats(waveform)
    beats(waveform).square().sum().backward()
    assert table.grad is not None and bool(table.grad.any())
    with torch.no_grad():
        table.add_(torch.randn(table.shape, generator=torch.Generator().manual_seed(0)))
        assert not torch.equal(beats(waveform), before)


def test_a_bias_of_inference_is_not_kept_for_training(files):
    beats = load_encoder(files["beats"])
    with torch.inference_mode():
        first = beats(noise(1, 9000))
    beats.layers.requires_grad_(True)  # the table stays frozen
    found = beats(noise(1, 9000))
    found.sum().backward()
    torch.testing.assert_close(found, first, rtol=0, atol=2e-5)
    with torch.no_grad():
        beats.encoder.position_bias.table.weight.mul_(2)
        assert not torch.equal(beats(noise(1, 9000)), first)


def test_an_encoder_of_inference_mode(files):
    """Loaded there, as programs that only predict do."""
    for path in files.values():
        with torch.inference_mode():
            encoder = load_encoder(path)
            first = encoder(noise(1, 9000))
            assert torch.equal(encoder(noise(1, 9000)), first)


def test_long_input_of_fpasst_and_atst_is_computed_in_pieces(loaded):
    """The first 250 tokens do not change with what follows after their frames."""
    for name in ("fpasst", "atst_frame"):
        encoder = loaded[name]
        waveform = noise(1, 16 * RATE)
        tokens = encoder(waveform)
        assert tokens.shape[1] == encoder.n_tokens(16 * RATE) == 400
        changed = waveform.clone()
        changed[:, 13 * RATE :] *= -1
        assert torch.equal(encoder(changed)[:, :250], tokens[:, :250])
        assert not torch.equal(encoder(changed)[:, 250:], tokens[:, 250:])
