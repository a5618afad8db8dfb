"""Files of every published layout are read, others are refused with what is wrong in them."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from desed_task.encoders.files.reading import read_weights
from desed_task.encoders.files.recognition import beside_encoder, recognise
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.random_weights import PUBLISHED_PREFIXES, write_random_encoder
from desed_task.encoders.registry import kind_of
from desed_task.errors import InputError

NAMES = tuple(PUBLISHED_PREFIXES)
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small file of each encoder with heads of 5 classes."""
    folder = tmp_path_factory.mktemp("kodierer ü")
    for name in NAMES:
        write_random_encoder(folder / f"{name}.pt", name, seed=1, width=64, n_classes=5)
    return {name: folder / f"{name}.pt" for name in NAMES}


@pytest.fixture(scope="module")
def states(files: dict[str, Path]) -> dict[str, State]:
    return {name: torch.load(path, weights_only=True) for name, path in files.items()}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[object], Path]:
    def save(content: object) -> Path:
        torch.save(content, tmp_path / "x.pt")
        return tmp_path / "x.pt"

    return save


def bare(state: State, name: str) -> State:
    """The encoder's own tensors, without their prefix."""
    prefix = PUBLISHED_PREFIXES[name]
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def renamed(state: State, name: str, prefix: str) -> State:
    return {prefix + key: value for key, value in bare(state, name).items()}


WAVEFORM = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "layout",
    ["heads", "student", "student with sequence model", "inserted prefix", "bare", "model",
     "state_dict", "wrapped"],
)  # fmt: skip
def test_published_layouts(name, layout, states, files, saved):
    state = states[name]
    inner = {"beats": "beats", "atst_frame": "atst"}.get(name, name)
    seq = {"seq_model.rnn.weight_ih_l0": torch.zeros(3, 3)}
    content = {
        "heads": state,
        "student": {k: v for k, v in state.items() if "weak_head" not in k},
        "student with sequence model": {**state, **seq},
        "inserted prefix": renamed(state, name, f"model.{inner}."),
        "bare": bare(state, name),
        "model": {"model": bare(state, name), "epoch": 3},
        "state_dict": {"state_dict": state, "hyper_parameters": {"lr": 1e-3}},
        "wrapped": {f"module.{key}": value for key, value in state.items()},
    }[layout]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_encoder(saved(content), name)
        assert load_encoder(saved(content)).name == name
    assert not found.training and not any(p.requires_grad for p in found.parameters())
    assert torch.equal(found(WAVEFORM), load_encoder(files[name])(WAVEFORM))


@pytest.mark.parametrize("name", NAMES)
def test_heads_are_left_to_the_caller(name, files, states, saved):
    content = read_weights(files[name])
    heads = {f"{head}_head.{kind}" for head in ("strong", "weak") for kind in ("weight", "bias")}
    assert set(beside_encoder(content, recognise(content))) == heads
    content = read_weights(saved({**bare(states[name], name), "strong_head.bias": torch.ones(5)}))
    assert set(beside_encoder(content, recognise(content))) == {"strong_head.bias"}


@pytest.mark.parametrize("name", NAMES)
def test_any_missing_tensor_is_named(name, states, saved):
    """With one missing, and with the encoder named or not."""
    prefix = PUBLISHED_PREFIXES[name]
    unused = ("mask_embed", "norm_stats")
    for key in bare(states[name], name):
        if ".1." in key or key.endswith(unused):
            continue
        state = {k: v for k, v in states[name].items() if k != prefix + key}
        with pytest.raises(InputError, match=rf"x.pt, below '{prefix}'") as refused:
            load_encoder(saved(state))
        assert f"- {prefix}{key} is missing" in str(refused.value), key
        assert f"not a complete {kind_of(name).title}" in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_any_wrong_shape_is_named(name, states, saved):
    prefix = PUBLISHED_PREFIXES[name]
    for key, value in bare(states[name], name).items():
        if ".1." in key or key.endswith(("mask_embed", "norm_stats")):
            continue
        wrong = torch.cat([value, value[..., :1]], dim=-1)
        with pytest.raises(InputError) as refused:
            load_encoder(saved({**states[name], prefix + key: wrong}), name)
        message = f"{prefix}{key} has shape {tuple(wrong.shape)}, not {tuple(value.shape)}"
        assert message in str(refused.value), (key, str(refused.value))


def test_tensors_are_named_as_in_files_of_other_layouts(states, saved):
    """Originals call the last norm of ATST-Frame and all of M2D otherwise than this code."""
    own = bare(states["atst_frame"], "atst_frame")
    prefix = "model.teacher.encoder."
    original = {prefix + k.replace("norm_frame", "norm"): v for k, v in own.items()}
    for kind in ("weight", "bias"):
        without = {k: v for k, v in original.items() if k != f"{prefix}norm.{kind}"}
        with pytest.raises(InputError, match=rf"- {prefix}norm\.{kind} is missing"):
            load_encoder(saved({"state_dict": without}))
    own = bare(states["m2d"], "m2d")
    original = {k.removeprefix("backbone."): v for k, v in own.items()}
    del original["blocks.0.mlp.fc1.bias"]
    with pytest.raises(InputError, match=r"- blocks\.0\.mlp\.fc1\.bias is missing"):
        load_encoder(saved({"model": original}))


@pytest.mark.parametrize("name", ["beats", "m2d"])
def test_dictionaries_in_dictionaries(name, states, files, saved):
    own = bare(states[name], name)
    expected = load_encoder(files[name])(WAVEFORM)
    for content in (
        {"state_dict": {"model": own, "epoch": 1}, "optimizer": {"state": {0: {"x": 1}}}},
        {"encoder": own, "epoch": 3},
    ):
        assert torch.equal(load_encoder(saved(content))(WAVEFORM), expected)
    with pytest.raises(InputError, match=r"2 dictionaries \(student, teacher\); save the one"):
        load_encoder(saved({"student": own, "teacher": own}))
    endless: dict[str, object] = {}
    endless["model"] = endless
    with pytest.raises(InputError, match="no tensors"):
        load_encoder(saved(endless))


@pytest.mark.parametrize("name", NAMES)
def test_several_faults_are_named_at_once(name, states, saved):
    state = dict(states[name])
    keys = [key for key in state if key.startswith(PUBLISHED_PREFIXES[name]) and ".1." in key]
    del state[keys[0]]
    state[keys[3]] = state[keys[3]] * float("nan")
    state[keys[-1]] = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(InputError) as refused:
        load_encoder(saved(state))
    text = str(refused.value)
    assert text.count("\n") == 3
    assert "is missing" in text and "is not finite" in text and "has shape (3,)" in text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wanted", NAMES)
def test_another_encoder_than_the_wanted_one_is_named(name, wanted, files):
    if name == wanted:
        assert load_encoder(files[name], wanted).name == name
        return
    title, other = kind_of(name).title, kind_of(wanted).title
    with pytest.raises(InputError, match=rf"holds {title}, not {other}; .* or name {name}"):
        load_encoder(files[name], wanted)


@pytest.mark.parametrize(
    ("name", "prefix", "owner"),
    [
        ("fpasst", "model.atst.", "ATST-Frame"),
        ("atst_frame", "model.fpasst.", "fPaSST"),
        ("asit", "model.m2d.", "M2D"),
        ("m2d", "model.asit.", "ASiT"),
        ("beats", "model.atst.", "ATST-Frame"),
        ("asit", "model.model.", "BEATs"),
    ],
)
def test_a_prefix_of_one_with_the_tensors_of_another(name, prefix, owner, states, saved):
    path = saved(renamed(states[name], name, prefix))
    title = kind_of(name).title
    for wanted in (None, name):
        message = f"tensors of {title} below '{prefix}', .*{owner}; .* begin with 'model."
        with pytest.raises(InputError, match=message):
            load_encoder(path, wanted)


def test_originals_of_atst_with_teacher_and_student(states, files, saved):
    """Lightning files of the self-supervised training; the teacher is the encoder."""
    own = bare(states["atst_frame"], "atst_frame")
    theirs = {k.replace("norm_frame", "norm"): v for k, v in own.items()}
    state = {f"model.student.encoder.{k}": torch.zeros_like(v) for k, v in theirs.items()}
    state |= {f"model.teacher.encoder.{k}": v for k, v in theirs.items()}
    state |= {"model.teacher.projector.0.weight": torch.zeros(3)}
    path = saved({"state_dict": state, "epoch": 1})
    expected = load_encoder(files["atst_frame"])(WAVEFORM)
    assert torch.equal(load_encoder(path, "atst_frame")(WAVEFORM), expected)
    path = saved({"state_dict": {f"encoder.encoder.{k}": v for k, v in theirs.items()}})
    assert torch.equal(load_encoder(path)(WAVEFORM), expected)


def test_finetuned_files_of_microsoft_and_others_that_wrap_beats(states, files, saved):
    own = bare(states["beats"], "beats")
    own |= {"predictor.weight": torch.zeros(527, 64), "predictor.bias": torch.zeros(527)}
    new = {"encoder.pos_conv.0.weight_g": own.pop(next(k for k in own if "original0" in k))}
    new["encoder.pos_conv.0.weight_v"] = own.pop(next(k for k in own if "original1" in k))
    expected = load_encoder(files["beats"])(WAVEFORM)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(load_encoder(saved({"model": own | new}))(WAVEFORM), expected)
        wrapped = {f"model.as_model.{key}": value for key, value in (own | new).items()}
        assert torch.equal(load_encoder(saved(wrapped))(WAVEFORM), expected)


def test_front_end_tables_are_ignored(states, saved):
    tables = {
        "m2d": {"model.to_spec.mel_basis": torch.zeros(80, 201)},
        "atst_frame": {
            "model.atst_mel.mel_transform.mel_scale.fb": torch.zeros(513, 64),
        },
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, extra in tables.items():
            assert load_encoder(saved({**states[name], **extra})).name == name


@pytest.mark.parametrize("name", NAMES)
def test_unknown_tensors_are_named_in_a_warning(name, states, saved):
    key = f"{PUBLISHED_PREFIXES[name]}blocks.0.gamma_1"
    with pytest.warns(UserWarning, match=r"1 tensor that .* has no use for, ignored: .*gamma_1"):
        load_encoder(saved({**states[name], key: torch.ones(3)}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_other_precisions_become_float32(name, dtype, states, files, saved):
    found = load_encoder(saved({key: value.to(dtype) for key, value in states[name].items()}))
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    expected = load_encoder(files[name])
    for key, value in found.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[key], rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_odd_sizes_do_not_fill_the_memory(name, states, saved):
    """A file of a megabyte that speaks of a terabyte is refused before memory is asked for."""
    block = next(k for k in states[name] if "norm1.bias" in k or "final_layer_norm.bias" in k)
    many = {block.replace(".0.", ".999999999."): torch.zeros(64)}
    with pytest.raises(InputError, match="names a layer number 999999999"):
        load_encoder(saved({**states[name], **many}), name)
    ends = ("norm1.bias", "norm2.bias", "fc1.bias", "fc2.bias", "norm.bias", "proj.bias")
    wide = {key: torch.zeros(128_000) for key in states[name] if key.endswith(ends)}
    with pytest.raises(InputError, match=r"not a complete .*:\n"):
        load_encoder(saved({**states[name], **wide}), name)


def test_files_before_pytorch_1_6(states, files, tmp_path):
    torch.save(states["asit"], tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    expected = load_encoder(files["asit"])(WAVEFORM)
    assert torch.equal(load_encoder(tmp_path / "old.pt")(WAVEFORM), expected)


def test_an_absent_file(tmp_path):
    with pytest.raises(
        InputError, match=r"no such file of encoder weights; .*--only_encoders, or give"
    ):
        load_encoder(tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"no such file of M2D weights; .*--only_encoders m2d, or"):
        load_encoder(tmp_path / "x.pt", "m2d")
    # Of a released file, the name that fetches it.
    with pytest.raises(InputError, match=r"--only_encoders beats_strong, or"):
        load_encoder(tmp_path / "BEATs_strong_1.pt", "beats")


def test_detectors_are_no_encoders(tmp_path, saved):
    state = {"sed_student.cnn.cnn.conv0.weight": torch.ones(3)}
    for content in (
        {"state_dict": state, "epoch": 3},
        {"cnn.cnn.conv0.weight": torch.ones(3)},
        {"state_dict": state, "score": np.float64(0.3)},  # as in files of the published baseline
    ):
        with pytest.raises(InputError, match=r"x.pt: a checkpoint of a detector .*--checkpoint"):
            load_encoder(saved(content), "beats")


def test_files_with_objects_say_what_to_do(saved):
    with pytest.raises(InputError, match=r"more than tensors.*state_dict saved alone.*--only_enc"):
        load_encoder(saved({"state_dict": {}, "hyper_parameters": Path("x")}))


def test_attacks_on_memory_and_damaged_files(states, tmp_path, saved):
    state = states["asit"]
    with pytest.raises(InputError, match=r"model.norm.weight: would fill 1000000000000 values"):
        load_encoder(saved({**state, "model.norm.weight": torch.ones(1).expand(1000000, 1000000)}))
    many = {f"extra.{i}": state["model.pos_embed"] for i in range(200)}
    with pytest.raises(InputError, match="its tensors would fill"):
        load_encoder(saved({**state, **many}))
    with pytest.raises(InputError, match=r"norm.weight: not a tensor of plain values"):
        load_encoder(saved({**state, "model.norm.weight": torch.ones(64).to_sparse()}))
    path = saved(state)
    content = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    (tmp_path / "packed.pt").write_bytes(content.getvalue())
    with pytest.raises(InputError, match=r"packed.pt: not a file of weights: .* is compressed"):
        load_encoder(tmp_path / "packed.pt")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 64
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged \(the checksum of"):
        load_encoder(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not a file of weights"):
        load_encoder(path)


def test_unknown_and_ambiguous_files(states, saved):
    with pytest.raises(InputError, match=r"no encoder that is known \(BEATs, .*weight \.\.\."):
        load_encoder(saved({"features.0.weight": torch.ones(3)}))
    two = {**states["beats"], **states["atst_frame"]}
    with pytest.raises(InputError, match="several encoders; name one of atst_frame and beats"):
        load_encoder(saved(two))
    assert load_encoder(saved(two), "atst_frame").name == "atst_frame"
    assert load_encoder(saved(two), "beats").name == "beats"


def test_a_file_that_lacks_whole_blocks_is_told(tmp_path: Path) -> None:
    """Sizes follow the file, so nothing else would notice that its last blocks are gone."""
    path = tmp_path / "kürzer.pt"
    write_random_encoder(path, "atst_frame", seed=1, width=768, n_blocks=1)
    with pytest.warns(UserWarning, match=r"kürzer.pt: holds 1 block of ATST-Frame, .* have 12"):
        encoder = load_encoder(path)
    assert len(encoder.layers) == 1
