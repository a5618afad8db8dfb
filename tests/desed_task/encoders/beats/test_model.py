"""BEATs against the published code's outputs, and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from desed_task.encoders.beats.encoder import BeatsConfig
from desed_task.encoders.beats.model import Beats, load_beats, write_random_beats
from desed_task.encoders.beats.weight_names import from_published, to_published
from desed_task.errors import InputError
from tests.desed_task.encoders.made_up_sounds import made_up_sounds

Parity = Callable[[str], Path]
RATE = 16000


@pytest.fixture
def published(parity: Parity) -> tuple[Beats, dict[str, Any], Tensor]:
    """The small network of the published code, its outputs, and the waveforms."""
    outputs = torch.load(parity("beats_tiny_io.pt"), weights_only=True)
    return (
        load_beats(parity("beats_tiny.pt")),
        outputs,
        outputs["waveform_int16"].float() / 32768,
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("beats") / "beats_mini.pt"
    write_random_beats(path, seed=42)
    return path


def changed(checkpoint: Path, path: Path, **cfg: Any) -> Path:
    """A copy with some entries of `cfg` changed."""
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "cfg": {**content["cfg"], **cfg}}, path)
    return path


def test_fbank_equals_the_published(published: tuple[Beats, dict[str, Any], Tensor]) -> None:
    beats, expected, waveform = published
    found = (beats.fbank(waveform * 2**15) - 15.41663) / (2 * 6.55582)
    torch.testing.assert_close(found, expected["fbank"].float(), rtol=1e-3, atol=1e-4)


def test_embeddings_equal_the_published(published: tuple[Beats, dict[str, Any], Tensor]) -> None:
    beats, expected, waveform = published
    short = beats.embed(waveform[:1, : expected["short_samples"]])
    found = beats.embed(waveform)
    for name, output in (("", found), ("short_", short)):
        torch.testing.assert_close(
            output.global_, expected[name + "global" + "_" * (not name)], rtol=0, atol=2e-6
        )
        error = (output.frame - expected[name + "frame"]).abs()
        # The layer norm of a faint patch magnifies the rounding of the fast Fourier transform,
        # which differs between processors; all but one value in a thousand is within 1e-5.
        assert error.max() < 1e-4
        assert (error > 1e-5).float().mean() < 1e-3


def test_the_encoder_alone_is_exact(published: tuple[Beats, dict[str, Any], Tensor]) -> None:
    """In float64 from the same tokens: what float32 costs without the filterbank."""
    beats, _, _ = published
    tokens = torch.randn(1, 160, 96, generator=torch.Generator().manual_seed(0))
    single = beats.encoder(tokens)
    double = beats.double().encoder(tokens.double())
    assert (single - double).abs().max() < 1e-5


def test_names_go_there_and_back(parity: Parity) -> None:
    state = torch.load(parity("beats_tiny.pt"), weights_only=True)["model"]
    back = to_published(from_published(state, 3), 3)
    assert set(back) == set(state)
    for name in set(state) - {"encoder.pos_conv.0.weight_v"}:
        torch.testing.assert_close(back[name], state[name])
    again = from_published(back, 3)["encoder.pos_conv.weight"]
    torch.testing.assert_close(again, from_published(state, 3)["encoder.pos_conv.weight"])


def test_position_bias_is_kept_for_one_length(checkpoint: Path) -> None:
    position_bias = load_beats(checkpoint).encoder.position_bias
    first = position_bias(40)
    assert position_bias(40) is first
    assert position_bias(48).shape == (4, 48, 48)


def test_the_full_size_network_has_the_published_tokens() -> None:
    with torch.device("meta"):
        beats = Beats(BeatsConfig())
    assert (beats.size, beats.n_tokens(160000), beats.n_tokens(52345)) == (768, 496, 160)
    assert sum(p.numel() for p in beats.parameters()) == pytest.approx(90.3e6, rel=0.01)


def test_a_random_beats_is_the_same_for_one_seed(checkpoint: Path, tmp_path: Path) -> None:
    first = torch.load(checkpoint, weights_only=True)
    write_random_beats(tmp_path / "again.pt", seed=42)
    write_random_beats(tmp_path / "other.pt", seed=43)
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    other = torch.load(tmp_path / "other.pt", weights_only=True)
    assert first["cfg"] == again["cfg"]
    assert all(torch.equal(first["model"][k], again["model"][k]) for k in first["model"])
    assert not torch.equal(
        first["model"]["post_extract_proj.weight"], other["model"]["post_extract_proj.weight"]
    )


def test_a_random_beats_tells_sounds_apart(checkpoint: Path) -> None:
    """The nearest mean of a few examples names a tone, a harmonic sound, hiss and rumble."""
    beats = load_beats(checkpoint)
    assert beats.size == 128
    rng = np.random.default_rng(0)
    embeddings = torch.stack([beats.embed(made_up_sounds(rng)).global_ for _ in range(10)])
    means = embeddings[:3].mean(dim=0)
    nearest = torch.cdist(embeddings[3:], means).argmin(dim=-1)
    assert (nearest == torch.arange(4)).float().mean() >= 0.9


def test_an_event_shows_where_it_is(checkpoint: Path) -> None:
    beats = load_beats(checkpoint)
    noise = 1e-3 * np.random.default_rng(0).normal(size=(1, 10 * RATE))
    beep = noise.copy()
    time_s = np.arange(RATE) / RATE
    beep[0, 4 * RATE : 5 * RATE] += 0.05 * np.sin(2 * np.pi * 1000 * time_s)
    without, with_beep = (beats.embed(torch.tensor(x).float()).frame for x in (noise, beep))
    change = (with_beep - without).norm(dim=1)[0].reshape(62, 8).sum(dim=1)
    inside = change[25:31].mean()  # tokens of 0.16 s
    assert inside > 4 * change[:22].mean()
    assert inside > 4 * change[35:].mean()


def test_both_spellings_of_the_name_are_found(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "BEATS_iter3_plus_AS2M.pt").write_bytes(checkpoint.read_bytes())
    assert load_beats(tmp_path / "BEATs_iter3_plus_AS2M.pt").size == 128


def test_an_absent_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x.pt: no such file of BEATs .*--only_encoders beats"):
        load_beats(tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"no such file .*BEATs_iter3\+ \(AS2M\).*unilm"):
        load_beats(tmp_path / "BEATs_iter3_plus_AS2M.pt")


def test_a_finetuned_checkpoint_is_an_encoder_too(checkpoint: Path, tmp_path: Path) -> None:
    path = changed(checkpoint, tmp_path / "x.pt", finetuned_model=True, predictor_class=527)
    assert load_beats(path).width == 128


def test_unknown_keys_of_the_cfg_are_tolerated(checkpoint: Path, tmp_path: Path) -> None:
    assert load_beats(changed(checkpoint, tmp_path / "x.pt", mask_ratio=0.8)).size == 128


def test_another_kind_of_network_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not supported \(layer_norm_first = True\)"):
        load_beats(changed(checkpoint, tmp_path / "x.pt", layer_norm_first=True))
    with pytest.raises(InputError, match="weights do not fit its cfg"):
        load_beats(changed(checkpoint, tmp_path / "y.pt", embed_dim=32))
    with pytest.raises(InputError, match=r"encoder\.layers\.2.* is missing"):
        load_beats(changed(checkpoint, tmp_path / "z.pt", encoder_layers=3))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(InputError, match=r"text.pt: not a file of weights"):
        load_beats(tmp_path / "text.pt")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other.pt: contains no tensors"):
        load_beats(tmp_path / "other.pt")


def test_a_waveform_shorter_than_a_patch(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="2799 samples are too few"):
        load_beats(checkpoint)(torch.zeros(1, 2799))
    assert load_beats(checkpoint).embed(torch.zeros(1, 2800)).frame.shape == (1, 128, 8)


def test_nobody_is_advised_to_load_weights_that_may_run_code(tmp_path):
    """The file asks for an object, as torch's own message about it advises to allow."""
    torch.save({"cfg": PurePosixPath("x"), "model": {}}, tmp_path / "odd.pt")
    with pytest.raises(InputError) as refused:
        load_beats(tmp_path / "odd.pt")
    text = str(refused.value)
    assert "odd.pt: not a file of weights (it contains more than tensors and plain values)" in text
    assert "weights_only" not in text and "trust" not in text


@pytest.mark.parametrize("content", [b"hello", b"RIFF\x24\0\0\0WAVEfmt ", b"<!DOCTYPE html>", b""])
def test_whatever_the_bytes_are_the_file_is_refused_in_one_message(content, tmp_path):
    """A damaged pickle can raise any exception."""
    (tmp_path / "odd.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"odd.pt: not a file of weights"):
        load_beats(tmp_path / "odd.pt")
    torch.save({"cfg": 3, "model": [1]}, tmp_path / "odd.pt")
    with pytest.raises(InputError, match=r"odd.pt: contains no tensors"):
        load_beats(tmp_path / "odd.pt")
