"""A checkpoint holds its fine-tuned encoders and gives them back without their files."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints import safe_load
from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import DetectorSpec, detector_of
from desed_task.checkpoints.stored_encoders import check_storable, encoder_from_checkpoint
from desed_task.encoders import registry
from desed_task.encoders.beats.model import write_random_beats
from desed_task.encoders.concatenated import ConcatenatedEncoders
from desed_task.encoders.interface import EmbeddingModel, Encoder
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.random_weights import write_random_encoder
from desed_task.errors import InputError
from desed_task.inference.detector import SoundEventDetector
from desed_task.inference.encoder_files import encoder_of_checkpoint
from tests.desed_task.checkpoints.example_checkpoints import saved, small_spec
from tests.desed_task.checkpoints.fine_tuned_checkpoints import fine_tuned
from tests.desed_task.inference.example_encoders import TINY_BEATS

KINDS = ("beats", "atst_frame", "fpasst", "asit", "m2d")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of weights of each encoder."""
    folder = tmp_path_factory.mktemp("Gewichte ä")
    for seed, name in enumerate(KINDS[1:]):
        write_random_encoder(folder / f"{name}.pt", name, seed=seed, width=64)
    # No tensor tells the largest distance.
    write_random_beats(folder / "beats.pt", seed=9, config=replace(TINY_BEATS, max_distance=200))
    return {name: folder / f"{name}.pt" for name in KINDS}


Make = Callable[..., tuple[dict[str, Any], dict[str, EmbeddingModel]]]


@pytest.fixture(scope="module")
def atst(files: dict[str, Path]) -> Callable[[], dict[str, Any]]:
    """A checkpoint that holds ATST-Frame, to be changed."""
    content, _ = fine_tuned(files["atst_frame"])

    def fresh() -> dict[str, Any]:
        state = {name: value.clone() for name, value in content["state_dict"].items()}
        return {**content, "state_dict": state, "detector": json_copy(content["detector"])}

    return fresh


def json_copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def noise(n_clips: int = 2, seconds: float = 2.5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return 0.1 * torch.randn(n_clips, round(16000 * seconds), generator=generator)


@torch.no_grad()
def assert_same_embeddings(one: EmbeddingModel, other: EmbeddingModel) -> None:
    waveform = noise()
    for a, b in zip(one.embed(waveform), other.embed(waveform), strict=True):
        assert torch.equal(a, b)


def refused(content: dict[str, Any], role: str = "student") -> str:
    with pytest.raises(InputError) as error:
        encoder_from_checkpoint(content, role, "größe.ckpt")
    return str(error.value)


@pytest.mark.parametrize("n_blocks", [None, 1])
@pytest.mark.parametrize("name", KINDS)
def test_each_encoder_is_given_back_to_the_bit(
    files: dict[str, Path], name: str, n_blocks: int | None, tmp_path: Path
) -> None:
    """Also with blocks left out, which count in the residual gain of BEATs."""
    content, models = fine_tuned(files[name], n_blocks=n_blocks)
    loaded = load_safely(saved(content, tmp_path / "a b.ckpt"))
    assert not torch.equal(*(next(iter(model.parameters())) for model in models.values()))
    for role, model in models.items():
        found = encoder_from_checkpoint(loaded, role)
        assert isinstance(found, Encoder) and found.name == name
        assert len(found.layers) == (n_blocks or 2)
        assert found.sha256 == sha256_of(files[name])
        assert not found.training and not any(p.requires_grad for p in found.parameters())
        assert_same_embeddings(found, model)
    if name == "beats":
        assert found.stored_sizes["max_distance"] == 200


@pytest.mark.parametrize("aggregation", ["pool1d", "interpolate"])
def test_several_encoders_are_joined_as_in_training(
    files: dict[str, Path], aggregation: str
) -> None:
    given = files["fpasst"], files["beats"]
    content, models = fine_tuned(*given, aggregation_type=aggregation)
    for role, model in models.items():
        found = encoder_from_checkpoint(content, role)
        assert isinstance(found, ConcatenatedEncoders) and found.name == "fpasst+beats"
        assert_same_embeddings(found, model)
    state = content["state_dict"]
    state["encoder_student.encoders.2.norm.bias"] = torch.zeros(3)
    state["encoder_student.elsewhere"] = torch.zeros(3)
    text = refused(content)
    assert "encoder_student.encoders.2.norm.bias is of none of fPaSST and BEATs" in text
    assert "encoder_student.elsewhere is of none of" in text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_computed_with_in_single(
    atst: Callable[[], dict[str, Any]], dtype: torch.dtype
) -> None:
    content = atst()
    state = {k: v.to(dtype) if "encoder" in k else v for k, v in content["state_dict"].items()}
    found = encoder_from_checkpoint({**content, "state_dict": state}, "teacher")
    for name, value in found.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(
            value, content["state_dict"][f"encoder_teacher.{name}"].to(dtype).float()
        )


@torch.no_grad()
def test_a_detector_needs_no_file_and_takes_none(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, models = fine_tuned(files["atst_frame"])
    path = saved(content, tmp_path / "größe.ckpt")
    waveform = noise(1, 10.0)
    found = {}
    for role, model in models.items():
        detector = SoundEventDetector.from_checkpoint(path, role=role)
        found[role] = np.concatenate([*detector.score_blocks([waveform[0].numpy()])])
        loaded = detector_of(load_safely(path), str(path))
        expected = loaded.networks[role](loaded.front_end(waveform), model.embed(waveform).frame)
        torch.testing.assert_close(torch.from_numpy(found[role]), expected.strong[0].T)
        own = SoundEventDetector(loaded, encoder=encoder_from_checkpoint(content, role), role=role)
        assert (np.concatenate([*own.score_blocks([waveform[0].numpy()])]) == found[role]).all()
    assert (found["student"] != found["teacher"]).any()
    given = load_encoder(files["atst_frame"])
    for encoder in (files["atst_frame"], [files["atst_frame"]], given):
        with pytest.raises(InputError, match=r"größe.ckpt: holds its own ATST-Frame, which its"):
            SoundEventDetector.from_checkpoint(path, encoder=encoder)
    # A configuration's files may be of something else.
    SoundEventDetector.from_checkpoint(path, encoder={"atst_frame": "absent.pt"})
    with pytest.raises(InputError, match=r"of the encoder that its checkpoint holds; open it with"):
        SoundEventDetector(loaded)


def test_wrong_tensors_are_named_as_the_file_has_them(atst: Callable[[], dict[str, Any]]) -> None:
    content = atst()
    state = content["state_dict"]
    del state["encoder_teacher.norm_frame.bias"]
    state["encoder_teacher.pos_embed"] = torch.zeros(1, 3, 64)
    state["encoder_teacher.blocks.1.mlp.fc2.weight"][3, 5] = float("nan")
    text = refused(content, "teacher")
    assert "größe.ckpt, below 'encoder_teacher.': not a complete ATST-Frame:" in text
    assert "  - encoder_teacher.norm_frame.bias is missing" in text
    assert "  - encoder_teacher.pos_embed has shape (1, 3, 64), not (1, 251, 64)" in text
    assert "  - encoder_teacher.blocks.1.mlp.fc2.weight is not finite" in text
    encoder_from_checkpoint(content, "student")
    state["encoder_student.blocks.1.extra"] = torch.zeros(2)
    with pytest.warns(UserWarning, match="no use for"):
        assert "encoder_student.blocks.1.extra is not in ATST-Frame" in refused(content)
    for name in [name for name in state if name.startswith("encoder_teacher.")]:
        del state[name]
    assert "no tensors below 'encoder_teacher.', so the teacher has no" in refused(
        content, "teacher"
    )
    assert refused(content, "mean") == "no network 'mean'; known: student, teacher"


def test_what_the_specification_says_must_be_so(atst: Callable[[], dict[str, Any]]) -> None:
    content = atst()
    (one,) = content["detector"]["embedding"]["encoders"]
    one["n_blocks"] = 3
    assert "2 blocks by its tensors, 3 by its specification" in refused(content)
    one.update(n_blocks=0, name="m2d")
    assert "not a complete M2D" in refused(content) or "not M2D" in refused(content)
    one["name"] = "foreign"
    assert "no encoder 'foreign' is installed" in refused(content)
    content = atst()
    content["detector"]["embedding"]["in_checkpoint"] = False
    contradiction = "embedding.in_checkpoint: False in its specification, True in its tensors"
    assert contradiction in refused(content)
    content = atst()
    held = content["state_dict"]
    content["state_dict"] = {k: v for k, v in held.items() if not k.startswith("encoder")}
    assert "in_checkpoint: True in its specification, False in its tensors" in refused(content)
    content["detector"]["embedding"]["in_checkpoint"] = False
    assert "holds no encoder, as none ran inside the steps of its training; its" in refused(content)
    content = atst()
    content["detector"]["net"]["use_embeddings"] = False
    assert "in_checkpoint is true, but net.use_embeddings is false" in refused(content)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"max_distance": 80}, "max_distance is 80, not above a quarter of num_buckets (320)"),
        ({"encoder_layers": 10**9}, "names a layer number 999999999; encoders have at most 256"),
        ({"encoder_layers": True}, "encoder_layers is True, not a positive whole number"),
        ({"conv_bias": 1}, "conv_bias is 1, neither true nor false"),
        ({"embed_dim": 1 << 40}, "BEATs"),
        ({"conv_pos_groups": 5}, "no BEATs has such sizes"),
        ({"encoder_embed_dim": 64}, "not a complete BEATs"),
        ({"num_buckets": "many"}, "num_buckets is 'many', not a positive whole number"),
    ],
)
def test_sizes_of_an_untrusted_file_do_no_harm(
    files: dict[str, Path], sizes: dict[str, Any], message: str
) -> None:
    content, _ = fine_tuned(files["beats"])
    (one,) = content["detector"]["embedding"]["encoders"]
    one["sizes"] = json.dumps({**json.loads(one["sizes"]), **sizes})
    assert message in refused(content)


@pytest.mark.parametrize("text", ["[1, 2]", "{", '{"a": [1]}', '{"a": null}', "[" * 5000])
def test_sizes_are_plain_values_by_name(atst: Callable[[], dict[str, Any]], text: str) -> None:
    content = atst()
    content["detector"]["embedding"]["encoders"][0]["sizes"] = text
    assert "embedding.encoders.0.sizes:" in refused(content)
    assert "is not a JSON object of plain values" in refused(content)


def test_sizes_that_are_not_there_are_named(files: dict[str, Path]) -> None:
    content, models = fine_tuned(files["beats"])
    (one,) = content["detector"]["embedding"]["encoders"]
    one["sizes"] = '{"encoder_layers": 2}'
    assert "the sizes of its BEATs lack 'encoder_embed_dim'" in refused(content)
    # Without any, they are those of the tensors, and published ones for the rest.
    one["sizes"] = ""
    found = encoder_from_checkpoint(content, "student")
    assert isinstance(found, Encoder)
    stored = {**models["student"].parts[0].stored_sizes, "max_distance": 800}
    assert found.stored_sizes == stored
    del content["state_dict"]["encoder_student.encoder.layers.1.self_attn.qkv_proj.bias"]
    missing = "encoder_student.encoder.layers.1.self_attn.qkv_proj.bias is missing"
    assert missing in refused(content)


def test_weights_of_the_student_alone_become_both(
    atst: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    content = atst()
    state = content["state_dict"]
    content["state_dict"] = {k: v for k, v in state.items() if "_teacher." not in k}
    with pytest.warns(UserWarning, match="weights of sed_student alone, which become both"):
        loaded = load_safely(saved(content, tmp_path / "a.ckpt"))
    pair = [encoder_from_checkpoint(loaded, role) for role in ("student", "teacher")]
    assert_same_embeddings(*pair)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists mapped files")
def test_a_large_file_is_mapped_and_not_read_twice(
    atst: Callable[[], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(atst(), tmp_path / "größe.ckpt")
    plain = load_safely(path)
    assert not is_mapped(path)
    monkeypatch.setattr(safe_load, "_MAPPED_FROM", 1000)
    mapped = load_safely(path)
    assert is_mapped(path)
    for name, value in mapped["state_dict"].items():
        assert torch.equal(value, plain["state_dict"][name])
    encoder, detector = encoder_from_checkpoint(mapped, "student"), detector_of(mapped, "a")
    del mapped, value
    # What stays in use is no part of the file, which may be replaced.
    assert not is_mapped(path)
    assert detector.networks["student"] is not None
    assert_same_embeddings(encoder, encoder_from_checkpoint(plain, "student"))


def is_mapped(path: Path) -> bool:
    gc.collect()
    return path.name in Path("/proc/self/maps").read_text()


# ---- encoders of others


class Renamed(Encoder):
    """Its files have other names than its own state_dict, and a size that no tensor tells."""

    name = "renamed"
    telling = ("their_weight",)
    token_rate = 10.0

    def __init__(self, gain: int) -> None:
        super().__init__()
        self.gain, self.width = gain, 6
        self.map = nn.Linear(1600, 6, bias=False)
        self.blocks = nn.ModuleList([nn.Identity()])

    @classmethod
    def from_weights(cls, weights: Any) -> Renamed:
        made = cls(3)
        made.load_state_dict({"map.weight": weights.state["their_weight"]})
        return made

    def n_tokens(self, n_samples: int) -> int:
        return n_samples // 1600

    def front_end(self, waveform: torch.Tensor) -> torch.Tensor:
        return waveform.unfold(1, 1600, 1600).transpose(1, 2)

    def tokens(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.run_blocks(self.map(self.gain * features.transpose(1, 2)))


class Storable(Renamed):
    """The same, which says how a checkpoint gives it back."""

    name = "storable"
    telling = ("other_weight",)

    @classmethod
    def from_weights(cls, weights: Any) -> Storable:
        made = cls(3)
        made.load_state_dict({"map.weight": weights.state["other_weight"]})
        return made

    @classmethod
    def from_state(cls, weights: Any) -> Storable:
        made = cls(weights.cfg["gain"])
        made.load_state_dict(weights.state)
        return made

    @property
    def stored_sizes(self) -> dict[str, int]:
        return {"gain": self.gain}


def test_an_encoder_of_others_says_how_it_is_given_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    for kind in (Renamed, Storable):
        place = f"{__name__}:{kind.__name__}"
        registry.register(registry.EncoderKind(kind.name, kind.name.title(), place, "a.pt"))
        torch.save({kind.telling[0]: torch.ones(6, 1600)}, tmp_path / f"{kind.name}.pt")
    with pytest.raises(InputError, match=r"encoder renamed: cannot run inside the steps, as a"):
        check_storable(load_encoder(tmp_path / "renamed.pt", "renamed"))
    storable = load_encoder(tmp_path / "storable.pt", "storable")
    storable.gain = 5
    check_storable(storable)
    content, models = fine_tuned(tmp_path / "storable.pt")
    sizes = content["detector"]["embedding"]["encoders"][0]["sizes"]
    assert sizes == '{"gain": 3}'
    assert_same_embeddings(encoder_from_checkpoint(content, "teacher"), models["teacher"])
    content["detector"]["embedding"]["encoders"][0]["sizes"] = '{"other": 3}'
    assert "storable cannot be made of these tensors: KeyError" in refused(content)


def test_a_checkpoint_without_encoders_is_as_before(files: dict[str, Path]) -> None:
    spec = small_spec(embedding_size=64)
    section = {**spec.embedding, "size": 64}
    section["encoders"] = [{**section["encoders"][0], "name": "atst_frame"}]
    spec = DetectorSpec.from_dict({**spec.to_dict(), "embedding": section}, "here")
    given = encoder_of_checkpoint("a.ckpt", {}, spec, files["atst_frame"], "teacher")
    assert isinstance(given, Encoder) and re.fullmatch("[0-9a-f]{64}", given.sha256)
