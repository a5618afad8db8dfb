"""Files of detectors: what is recognised, what is refused, and that nothing is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from desed_task.audioset.file import is_event_file, network_of, refuse_weights
from desed_task.checkpoints.file_kind import holds_event_head
from desed_task.checkpoints.safe_load import load_safely, read_safely
from desed_task.encoders.random_weights import PUBLISHED_PREFIXES, write_random_encoder
from desed_task.errors import InputError
from desed_task.inference import SoundEventDetector
from desed_task.inference.scorers.opening import open_scorer
from tests.desed_task.audioset.small_detectors import saved_detector, small_state, with_gru
from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("Größe 1")


def written(folder, state, name="x.bin"):
    torch.save(state, folder / name)
    return folder / name


def opened(path):
    content = read_safely(path)
    assert is_event_file(content) and holds_event_head(path)
    return network_of(content, path)


@pytest.mark.parametrize("name", list(PUBLISHED_PREFIXES))
def test_every_published_layout_is_a_detector(name, folder):
    network, found = opened(saved_detector(folder, name))
    assert found.kind.name == name and network.encoder.name == name
    with torch.inference_mode():
        logits = network(0.1 * torch.randn(2, 160000, generator=torch.Generator().manual_seed(1)))
        longer = network(0.1 * torch.randn(1, 52800, generator=torch.Generator().manual_seed(1)))
    assert logits.strong.shape == (2, 250, 447) and logits.weak.shape == (2, 447)
    assert longer.strong.shape == (1, 250, 447)
    assert logits.strong.std() > 0.1
    torch.testing.assert_close(
        network.encoder(torch.zeros(1, 160000)).shape[2], network.encoder.width
    )


@pytest.mark.parametrize("level", ["", "gru.", "rnn."])
@pytest.mark.parametrize("both", [True, False])
def test_a_gru_is_between_frames_and_heads(folder, level, both):
    plain = small_state(folder)
    network, _ = opened(written(folder, with_gru(plain, level=level, both=both)))
    assert (network.seq_model.num_layers, network.seq_model.bidirectional) == (2, both)
    waveform = 0.1 * torch.randn(1, 160000, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        frames, _ = network.seq_model(network.encoder(waveform))
        expected = network.strong_head(frames)
        found = network(waveform)
    torch.testing.assert_close(found.strong, expected)
    torch.testing.assert_close(found.weak, network.weak_head(frames.mean(1)))


@pytest.mark.parametrize("wrap", ["model", "state_dict", "module.", "net."])
def test_tensors_below_a_key_or_a_name_are_found(folder, wrap):
    state = small_state(folder)
    if wrap.endswith("."):
        content = {wrap + name: value for name, value in state.items()}
    else:
        content = {wrap: state, "epoch": 3}
    assert opened(written(folder, content))[1].kind.name == "atst_frame"


def test_a_head_for_clips_may_be_absent(folder):
    state = {k: v for k, v in small_state(folder).items() if not k.startswith("weak_head")}
    network, _ = opened(written(folder, state))
    with torch.inference_mode():
        assert network(torch.zeros(1, 16000)).weak is None


def test_tables_of_front_ends_are_left(folder):
    state = {**small_state(folder), "model.atst_mel.melspec.window": torch.ones(3)}
    opened(written(folder, state))


def broken(state, key, change):
    """`state` with one tensor changed, or without it."""
    other = {k: v for k, v in state.items() if k != key}
    return other if change is None else {**other, key: change(state.get(key))}


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("strong_head.bias", None, r"strong_head.bias is missing"),
        (
            "strong_head.bias",
            lambda b: b[:446],
            r"strong_head.bias has shape \(446,\), not \(447,\)",
        ),
        ("strong_head.weight", lambda w: w[:, :5], r"strong_head.weight has shape \(447, 5\), not"),
        ("strong_head.weight", lambda w: w[:416], r"\(416, 64\) \(AudioSet's evaluation set .*447"),
        ("strong_head.weight", lambda w: w[:10], r"has shape \(10, 64\); names are known for"),
        ("strong_head.weight", lambda w: w[0], r"has shape \(64,\); names are known for"),
        ("strong_head.weight", lambda w: w * torch.nan, r"strong_head.weight is not finite"),
        ("strong_head.weight", lambda _: "text", r"strong_head.weight is not a tensor"),
        ("strong_head.bias", lambda b: b.long(), r"strong_head.bias is not finite, or has no real"),
        ("weak_head.weight", None, r"weak_head.weight is missing"),
        ("weak_head.scale", lambda _: torch.ones(1), r"weak_head.scale has no place"),
        ("model.atst.pos_embed", None, r"pos_embed is missing"),
        ("model.atst.norm_frame.bias", lambda b: b[:3], r"norm_frame.bias has shape \(3,\)"),
        ("rnn.weight_ih_l0", lambda _: torch.ones(1), r"rnn.weight_ih_l0 has no place"),
        ("model.rnn.weight", lambda _: torch.ones(1), r"model.rnn.weight has no place"),
        ("seq_model.weight", lambda _: torch.ones(1), r"has seq_model.weight; only a GRU"),
        (
            "seq_model.0.norm1.bias",
            lambda _: torch.ones(1),
            r"has seq_model.0.norm1.bias; only a GRU",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(folder, key, change, message):
    path = written(folder, broken(small_state(folder), key, change))
    with pytest.raises(InputError, match=message) as error:
        opened(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("seq_model.weight_hh_l0", None, r"seq_model.weight_hh_l0 is missing"),
        ("seq_model.bias_ih_l1_reverse", None, r"seq_model.bias_ih_l1_reverse is missing"),
        (
            "seq_model.weight_ih_l7",
            lambda _: torch.ones(24, 16),
            r"seq_model.weight_ih_l7 has no place",
        ),
        (
            "seq_model.weight_hh_l0",
            lambda w: w.repeat(4, 3)[:32, :8],
            r"\(32, 8\); of a GRU with 8",
        ),
        ("seq_model.norm.weight", lambda _: torch.ones(3), r"seq_model.norm.weight; only a GRU"),
        (
            "seq_model.b.weight_hh_l0",
            lambda _: torch.ones(24, 8),
            r"sequence model has .*; only a GRU",
        ),
        ("strong_head.weight", lambda w: w[:, :8], r"strong_head.weight has shape \(447, 8\), not"),
    ],
)
def test_a_gru_that_is_not_whole_is_named(folder, key, change, message):
    path = written(folder, broken(with_gru(small_state(folder)), key, change))
    with pytest.raises(InputError, match=message):
        opened(path)


def test_an_unknown_encoder_is_told(folder):
    state = {"strong_head.weight": torch.ones(447, 4), "strong_head.bias": torch.ones(447)}
    path = written(folder, {**state, "model.features.0.0.weight": torch.ones(3, 3)})
    with pytest.raises(InputError, match=r"no encoder that is known .*model.features.0.0.weight"):
        opened(path)


def test_views_of_few_bytes_are_not_filled(folder):
    state = small_state(folder)
    state["model.atst.mask_embed"] = torch.zeros(1).expand(1 << 33)
    with pytest.raises(InputError, match=r"its tensors would fill \d+ bytes, but the file has"):
        opened(written(folder, state))


@pytest.mark.parametrize("n_classes", [0, 527])
def test_weights_without_a_head_for_events_are_no_detector(folder, n_classes):
    path = folder / f"weights {n_classes}.pt"
    write_random_encoder(path, "fpasst", seed=2, width=64, n_classes=n_classes)
    content = torch.load(path, weights_only=True)
    for head in ("weight", "bias"):
        content.pop(f"strong_head.{head}", None)
    path = written(folder, content, path.name)
    what = "a head for clips .527 classes., which says" if n_classes else "without a head, not a"
    for open_it in (SoundEventDetector.from_checkpoint, open_scorer):
        with pytest.raises(
            InputError, match=f"{path.name}: holds .*fPaSST .*{what}.*fpasst_strong"
        ):
            open_it(path)


def test_what_is_no_file_of_weights_is_left_to_others(folder):
    for content in ({}, {"state_dict": {}}, [1], {"a": torch.ones(2)}):
        refuse_weights(content, folder / "x")


def test_training_and_testing_refuse_such_a_file(folder):
    with pytest.raises(InputError, match=r"a detector of AudioSet's classes, which only .*predict"):
        load_safely(saved_detector(folder))
    wrapped = written(folder, {"state_dict": small_state(folder), "hyper_parameters": {}})
    with pytest.raises(InputError, match=r"a detector of AudioSet's classes, which only .*predict"):
        load_safely(wrapped)


def test_kinds_of_files_are_told_apart_without_loading(folder):
    own = saved(ours(small_spec(use_embeddings=False)), folder / "own.ckpt")
    (folder / "text.pt").write_text("strong_head.weight")
    (folder / "cut.pt").write_bytes(saved_detector(folder).read_bytes()[:-1000])
    for path in (own, folder / "text.pt", folder / "cut.pt", folder / "none.pt", folder):
        assert not holds_event_head(path)


def test_a_damaged_file_is_told(folder):
    whole = saved_detector(folder).read_bytes()
    for name, content in (
        ("cut.pt", whole[:-1000]),
        ("flipped.pt", whole[:5000] + b"?" * 8 + whole[5008:]),
    ):
        (folder / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: not a checkpoint that can be loaded safely"):
            open_scorer(folder / name)
