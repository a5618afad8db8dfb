"""A checkpoint says by itself what its detector computes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from desed_task import features
from desed_task.checkpoints import spec as spec_module
from desed_task.checkpoints.encoder_specs import EncoderSpec, embedding_section
from desed_task.checkpoints.published import PUBLISHED_SPEC
from desed_task.checkpoints.spec import Detector, DetectorSpec, load_detector
from desed_task.errors import InputError
from desed_task.features import LogMel, Scaler
from desed_task.labels import CLASSES, FrameGrid
from desed_task.nnet import CNN as cnn
from desed_task.nnet.CRNN import CRNN
from desed_task.postprocess.decoders import MedianDecoder
from tests.desed_task.checkpoints.example_checkpoints import (
    ours,
    published,
    saved,
    small_spec,
    tensors,
)

Parity = Callable[[str], Path]


def loaded(content: Any, folder: Path) -> Detector:
    return load_detector(saved(content, folder / "a.ckpt"))


def refusal(content: Any, folder: Path) -> str:
    with pytest.raises(InputError) as error:
        loaded(content, folder)
    assert str(folder / "a.ckpt") in str(error.value)
    return str(error.value)


@torch.no_grad()
def scores(detector: Detector, seed: int = 0) -> list[Tensor]:
    """What both networks say of a second of noise."""
    generator = torch.Generator().manual_seed(seed)
    mel = detector.front_end(torch.randn(1, 16000, generator=generator) / 10)
    embeddings = torch.randn(1, detector.spec.embedding["size"], 12, generator=generator)
    return [value for net in detector.networks.values() for value in net(mel, embeddings)]


def assert_same(one: list[Tensor], other: list[Tensor]) -> None:
    assert len(one) == len(other) == 4
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_reference_file_computes_what_it_did(parity: Parity) -> None:
    with pytest.warns(UserWarning, match=r"net.n_layers_RNN is 2, not 1$"):
        detector = load_detector(parity("reference_tiny.ckpt"))
    expected = torch.load(parity("reference_tiny_io.pt"), weights_only=True)
    waveform = torch.load(parity("front_end.pt"), weights_only=True)["waveform_int16"] / 32768
    with torch.no_grad():
        mel = detector.front_end(waveform)
        for role, network in detector.networks.items():
            found = network(mel, expected["embeddings"].float())
            for kind in ("strong", "weak"):
                error = (getattr(found, kind) - expected[role][kind]).abs().max()
                assert error < 1e-5
    assert detector.spec.grid == FrameGrid()
    assert detector.spec.classes == CLASSES


def test_ours_and_the_same_as_published_agree(tmp_path: Path) -> None:
    spec = small_spec()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = loaded(ours(spec), tmp_path)
    with pytest.warns(UserWarning, match="n_layers_RNN"):
        theirs = loaded(published(spec), tmp_path)
    assert mine.spec == theirs.spec == spec
    assert_same(scores(mine), scores(theirs))
    student, _, teacher, _ = scores(mine)
    assert not torch.equal(student, teacher)
    assert not any(p.requires_grad for net in mine.networks.values() for p in net.parameters())


@pytest.mark.parametrize("aggregation", ["pool1d", "interpolate", "frame", "global"])
@pytest.mark.parametrize("activation", ["glu", "cg", "relu", "leakyrelu"])
def test_sizes_come_from_the_tensors(aggregation: str, activation: str, tmp_path: Path) -> None:
    spec = small_spec(
        aggregation_type=aggregation,
        embedding_type="global" if aggregation == "global" else "frame",
        activation=activation,
        n_layers_RNN=3,
    )
    content = published(spec)
    # What the tensors tell is wrong in the hyperparameters or absent, what they do not is kept.
    net = content["hyper_parameters"]["net"]
    net.update(nb_filters=[9, 9], n_RNN_cell=77, embedding_size=5, nclass=3, kernel_size=[5, 5])
    del net["attention"], net["n_in_channel"]
    content["hyper_parameters"]["feats"].update(n_mels=64, n_window=1024)
    with pytest.warns(UserWarning, match="its tensors are used") as warned:
        detector = loaded(content, tmp_path)
    assert detector.spec == spec
    (message,) = (str(warning.message) for warning in warned)
    assert "net.n_RNN_cell is 4, not 77" in message and "front_end.win is 512, not 1024" in message
    assert_same(scores(detector), scores(loaded(ours(spec), tmp_path)))


def test_a_network_without_embeddings(tmp_path: Path) -> None:
    spec = small_spec(use_embeddings=False)
    detector = loaded(ours(spec), tmp_path)
    assert_same(scores(detector), scores(loaded(published(spec), tmp_path)))


@pytest.mark.parametrize("dims", [[1, 2], [2]])
def test_the_statistics_of_the_scaler_are_in_the_file(dims: list[int], tmp_path: Path) -> None:
    spec = small_spec(scaler={"statistic": "dataset", "normtype": "standard", "dims": dims})
    content = ours(spec)
    n_mels = 1 if len(dims) == 2 else spec.front_end["n_mels"]
    content["state_dict"]["scaler.shift"] = torch.full((1, n_mels, 1), -20.0)
    content["state_dict"]["scaler.scale"] = torch.full((1, n_mels, 1), 8.0)
    detector = loaded(content, tmp_path)
    mel_spec = detector.front_end.mel_spec
    waveform = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    expected = (mel_spec.to_db(mel_spec(waveform)) + 20) / 8
    torch.testing.assert_close(detector.front_end(waveform), expected)
    del content["state_dict"]["scaler.shift"]
    assert "scaler.shift: missing in the checkpoint (see scaler.statistic)" in refusal(
        content, tmp_path
    )


def changed_defaults(function: Any) -> dict[str, Any]:
    """Other keyword defaults than the code's, for every argument that has one."""
    other = {"n_fft": 1024, "win": 1024, "n_mels": 32, "hop_samples": 100, "f_max": 4000.0}
    other |= {"normtype": "standard", "dims": (1,), "n_layers_RNN": 1, "n_RNN_cell": 7, "nclass": 3}
    other |= {"aggregation_type": "interpolate", "activation": "cg", "nb_filters": (4, 4)}
    return {
        name: other.get(name, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def test_other_defaults_in_the_code_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(aggregation_type="pool1d")
    content = ours(spec)
    before = scores(loaded(content, tmp_path))
    for kind in (LogMel, Scaler, CRNN, cnn.CNN):
        new = changed_defaults(kind.__init__)
        slots = inspect.getfullargspec(kind.__init__)
        positional = tuple(new[name] for name in slots.args if name in new)
        monkeypatch.setattr(kind.__init__, "__defaults__", positional)
        by_name = {name: new[name] for name in slots.kwonlyargs if name in new}
        monkeypatch.setattr(kind.__init__, "__kwdefaults__", by_name or None)
    assert LogMel().mel_scale.fb.shape == (513, 32)
    for part in ("net", "front_end", "scaler"):
        monkeypatch.setitem(
            PUBLISHED_SPEC, part, dict.fromkeys(PUBLISHED_SPEC[part]) | PUBLISHED_SPEC[part]
        )
    monkeypatch.setattr(features, "mel_filters", lambda *args: torch.zeros(257, 16))
    assert_same(scores(loaded(content, tmp_path)), before)


def test_every_argument_is_stored() -> None:
    spec = small_spec()
    for part, kind in (("front_end", LogMel), ("scaler", Scaler)):
        assert set(getattr(spec, part)) == set(inspect.signature(kind).parameters)
    arguments = set(inspect.signature(CRNN).parameters) - {"cnn"}
    arguments |= set(inspect.signature(cnn.CNN).parameters)
    assert set(spec.net) == arguments


def test_what_no_specification_holds_belongs_to_the_schema_version() -> None:
    """Whoever changes one of these raises SCHEMA_VERSION and keeps the old value for old files."""
    norm = cnn.CNN().cnn.get_submodule("batchnorm0")
    constants = (features.AMPLITUDE_FLOOR, features.DB_RANGE, features.SCALE_FLOOR, norm.eps)
    assert (spec_module.SCHEMA_VERSION, constants) == (5, (1e-5, (-50.0, 80.0), 1e-8, 1e-3))


def test_a_specification_survives_its_file(tmp_path: Path) -> None:
    spec = small_spec().with_embedding("ab" * 32)
    stored = spec.to_dict()
    path = saved(stored, tmp_path / "a.pt")
    assert DetectorSpec.from_dict(torch.load(path, weights_only=True), "a.pt") == spec
    assert [one.checkpoint_sha256 for one in spec.encoders] == ["ab" * 32]
    stored["net"]["nb_filters"].append(1)
    assert len(spec.net["nb_filters"]) == 2


def test_a_specification_of_schema_1_says_what_was_drawn_then(tmp_path: Path) -> None:
    """Before the key existed, time dropping drew one run per clip."""
    spec = small_spec(dropstep_scope="clip")
    content = ours(spec)
    content["detector"]["schema_version"] = 1
    del content["detector"]["net"]["dropstep_scope"]
    assert load_detector(saved(content, tmp_path / "old.ckpt")).spec == spec
    content["detector"]["schema_version"] = 2
    assert "net.dropstep_scope: missing" in refusal(content, tmp_path)


def test_a_specification_of_schema_2_means_the_median_filters(tmp_path: Path) -> None:
    """Before the key existed, nothing else decoded scores."""
    spec = small_spec()
    content = ours(spec)
    content["detector"]["schema_version"] = 2
    del content["detector"]["decoder"]
    found = load_detector(saved(content, tmp_path / "old.ckpt")).spec
    assert found == spec
    assert isinstance(found.decode, MedianDecoder)
    assert found.decode.smooth.lengths == spec.median_filter


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_specifications_of_earlier_schemas_mean_one_beats(schema: int, tmp_path: Path) -> None:
    content = ours(small_spec(dropstep_scope="clip").with_embedding("ab" * 32))
    stored = content["detector"]
    stored["schema_version"] = schema
    stored["embedding"] = {"model": "BEATs", "size": 6, "checkpoint_sha256": "ab" * 32}
    if schema == 1:
        del stored["net"]["dropstep_scope"]
    spec = load_detector(saved(content, tmp_path / "old.ckpt")).spec
    assert spec.encoders == (EncoderSpec("beats", 6, "ab" * 32, 0),)
    assert spec.to_dict()["schema_version"] == 5
    assert "model" not in spec.to_dict()["embedding"]


def test_a_specification_of_schema_4_holds_no_encoders(tmp_path: Path) -> None:
    spec = small_spec().with_embedding("ab" * 32)
    content = ours(spec)
    content["detector"]["schema_version"] = 4
    section = content["detector"]["embedding"]
    del section["in_checkpoint"], section["encoders"][0]["sizes"]
    found = load_detector(saved(content, tmp_path / "old.ckpt")).spec
    assert found == spec and not found.holds_encoders
    content["detector"]["schema_version"] = 5
    assert "embedding.in_checkpoint: missing" in refusal(content, tmp_path)


def two_encoders(**change: Any) -> dict[str, Any]:
    """A checkpoint of a network that takes 2 features of BEATs and 4 of ATST-Frame."""
    beats = EncoderSpec("beats", 2)._asdict()
    atst = EncoderSpec("atst_frame", 4, "cd" * 32, 10)._asdict()
    content = ours(small_spec())
    section = {"size": 6, "in_checkpoint": False, "encoders": [beats, {**atst, **change}]}
    content["detector"]["embedding"] = section
    return content


def test_a_specification_names_several_encoders(tmp_path: Path) -> None:
    spec = load_detector(saved(two_encoders(), tmp_path / "a.ckpt")).spec
    assert spec.encoders == (EncoderSpec("beats", 2), EncoderSpec("atst_frame", 4, "cd" * 32, 10))
    assert [one.in_words for one in spec.encoders] == ["BEATs", "ATST-Frame (10 blocks)"]
    # Widths may be unknown, but those that are known must leave room.
    spec = load_detector(saved(two_encoders(width=0), tmp_path / "a.ckpt")).spec
    assert [one.width for one in spec.encoders] == [2, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"name": "pann\u00e4"},
            "encoders.1.name: no encoder 'pann\u00e4' is installed (known: beats, ",
        ),
        ({"name": "os:system"}, "install the package that provides it"),
        ({"name": "beats"}, "embedding.encoders: an encoder occurs twice"),
        ({"name": 3}, "embedding.encoders.name: 3 is not allowed"),
        ({"width": 5}, "widths of 2 + 5 features do not make embedding.size = 6"),
        ({"width": -4}, "embedding.encoders.width: -4 is not allowed"),
        ({"n_blocks": 2.5}, "embedding.encoders.n_blocks: 2.5 is not allowed"),
        ({"n_blocks": None}, "embedding.encoders.n_blocks: None is not allowed"),
        ({"checkpoint_sha256": "\x1b[2J"}, "'\\x1b[2J' is not a SHA-256 in 64 hexadecimal digits"),
        ({"path": "x.pt"}, "embedding.encoders.path: unknown key"),
    ],
)
def test_an_encoder_that_cannot_be_meant_is_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refusal(two_encoders(**change), tmp_path)


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (None, "embedding: None is not a section"),
        ({"size": 6, "encoders": []}, "embedding.encoders: [] is not a list of values"),
        ({"size": 6, "encoders": "beats"}, "embedding.encoders: 'beats' is not a list"),
        ({"size": 6, "encoders": ["beats"]}, "embedding.encoders: 'beats' is not a section"),
        ({"size": 6}, "embedding.encoders: missing"),
        ({"size": 0, "encoders": []}, "embedding.size: 0 is not allowed"),
        (
            embedding_section(7, [EncoderSpec()]),
            "embedding.size is 7, net.embedding_size 6",
        ),
        (
            embedding_section(6, [EncoderSpec(n) for n in ("beats", "m2d")] * 4),
            "an encoder occurs twice",
        ),
    ],
)
def test_encoders_of_another_form_are_named(
    embedding: object, message: str, tmp_path: Path
) -> None:
    content = ours(small_spec())
    content["detector"]["embedding"] = embedding
    assert message in refusal(content, tmp_path)


def test_what_a_network_without_embeddings_says_of_encoders_does_not_matter(
    tmp_path: Path,
) -> None:
    content = ours(small_spec(use_embeddings=False))
    content["detector"]["embedding"]["encoders"][0]["name"] = "unknown"
    assert load_detector(saved(content, tmp_path / "a.ckpt")).spec.encoders == ()


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("beats", ["beats"]),
        ("BEATs", ["beats"]),
        ("atst_frame", ["atst_frame"]),
        (["beats", "atst_frame"], ["beats", "atst_frame"]),
    ],
)
def test_checkpoints_without_a_specification_name_encoders_in_hyper_parameters(
    model: object, names: list[str], tmp_path: Path
) -> None:
    content = published(small_spec())
    content["hyper_parameters"]["pretrained"] = {"model": model}
    with pytest.warns(UserWarning, match="n_layers_RNN"):
        spec = load_detector(saved(content, tmp_path / "a.ckpt")).spec
    assert [one.name for one in spec.encoders] == names


@pytest.mark.parametrize("model", [3, [], [None], {"beats": 1}, "panns"])
@pytest.mark.filterwarnings("ignore:.*n_layers_RNN")
def test_no_other_embeddings_are_taken_for_those_of_beats(model: object, tmp_path: Path) -> None:
    content = published(small_spec())
    content["hyper_parameters"]["pretrained"] = {"model": model}
    text = refusal(content, tmp_path)
    assert "pretrained.model is" in text or "no encoder 'panns' is installed" in text


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        ("boxes", "decoder: 'boxes' is not a section of keys"),
        ({"kind": "box"}, "decoder.kind: 'box'; give one of median, boxes, threshold_boxes"),
        ({"merge": 1}, "decoder.merge: unknown key; known: kind, step_filter_s"),
        ({"step_filter_s": "long"}, "decoder: step_filter_s is 'long'"),
        ({"merge_abs": {"Unicorn": 0.2}}, "decoder.merge_abs: names unknown classes: Unicorn"),
    ],
)
def test_a_decoder_that_cannot_be_used_is_named(
    tmp_path: Path, decoder: object, message: str
) -> None:
    content = ours(small_spec())
    content["detector"]["decoder"] = decoder
    assert message in refusal(content, tmp_path)


def test_the_published_values_are_those_of_the_recipe(parity: Parity) -> None:
    import json

    tree = json.loads(parity("pretrained_values.json").read_text())
    net = {key: value for key, value in tree["net"].items() if key in PUBLISHED_SPEC["net"]}
    assert PUBLISHED_SPEC["net"] == {**net, "n_layers_RNN": 2, "dropstep_scope": "batch"}
    assert PUBLISHED_SPEC["median_filter"] == tree["net"]["median_filter"]
    spec = DetectorSpec.from_dict(PUBLISHED_SPEC, "here")
    assert spec.scaler == {k: v for k, v in tree["scaler"].items() if k != "savepath"}
    assert spec.front_end["hop_samples"] == tree["feats"]["hop_length"]


def test_a_newer_schema_is_refused_with_a_remedy(tmp_path: Path) -> None:
    content = ours(small_spec())
    content["detector"].update(schema_version=6, ensemble=[1, 2])
    text = refusal(content, tmp_path)
    assert "newer version of this code (schema 6; known: up to 5); update this code" in text


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("net", "n_RNN_cell"), 0, "net.n_RNN_cell: 0 is not allowed; a usual value is 192"),
        (("net", "attention"), 1, "net.attention: 1 is not allowed; a usual value is True"),
        (("net", "pooling"), [[2, 4, 1], [2, 4]], "net.pooling: [2, 4, 1] is not a pair"),
        (("net", "pooling"), [[2, 4], [2, 2]], "reduces 4 frames and 8 bands to one"),
        (("net", "stride"), "1", "net.stride: '1' is not a list of values"),
        (("net", "padding"), [1, -1], "net.padding: -1 is not allowed"),
        (("net", "stride"), [2, 1], "a convolution changes the number of frames"),
        (("net",), None, "net: None is not a section of keys"),
        (("front_end", "f_max"), float("nan"), "front_end.f_max: nan is not allowed"),
        (("front_end", "hop_samples"), True, "front_end.hop_samples: True is not allowed"),
        (("front_end", "sample_rate"), 8000, "sample_rate is 16000, front_end.sample_rate 8000"),
        (("classes",), ["a", "a"], "2 classes, net.nclass 27 and 27 lengths"),
        (("classes",), ["a"] * 27, "classes: a label occurs twice"),
        (("classes",), [1] * 27, "classes: 1 is not allowed"),
        (("clip_s",), "10", "clip_s: '10' is not allowed"),
        (("clip_s",), 0, "clip_s: 0 is not allowed"),
        (("median_filter",), [], "median_filter: [] is not a list of values"),
        (("schema_version",), "1", "schema_version: '1' is not allowed"),
        (("net", "n_RNN_cell"), 10**9, "net.n_RNN_cell: 1000000000 in its specification, 4 in"),
        (("front_end", "n_fft"), 10**9, "front_end.n_fft: 1000000000 in its specification, 512"),
        (("net", "aggregation_type"), "sum", "net.aggregation_type: unknown 'sum'"),
        (("scaler", "normtype"), "max", "scaler.normtype: unknown 'max'"),
    ],
)
def test_a_wrong_specification_says_where(
    place: tuple[str, ...], value: Any, message: str, tmp_path: Path
) -> None:
    content = ours(small_spec())
    branch = content["detector"]
    for key in place[:-1]:
        branch = branch[key]
    branch[place[-1]] = value
    assert message in refusal(content, tmp_path)


def test_absent_and_unknown_keys_are_named_at_once(tmp_path: Path) -> None:
    content = ours(small_spec())
    del content["detector"]["net"]["dropout"], content["detector"]["scaler"]
    content["detector"]["extra"] = 1
    text = refusal(content, tmp_path)
    assert all(x in text for x in ("net.dropout: missing", "scaler: missing", "extra: unknown key"))
    content["detector"] = None
    assert "top level: None is not a section of keys" in refusal(content, tmp_path)


def test_the_tensor_the_shapes_and_the_key_of_a_misfit(tmp_path: Path) -> None:
    content = ours(small_spec())
    state = content["state_dict"]
    state["sed_teacher.rnn.rnn.weight_hh_l1"] = torch.zeros(9, 3)
    del state["sed_student.cnn.cnn.glu1.linear.bias"]
    state["sed_teacher.cnn.cnn.conv7.bias"] = torch.zeros(1)
    text = refusal(content, tmp_path)
    assert (
        "sed_teacher.rnn.rnn.weight_hh_l1: shape (9, 3) in the checkpoint, (12, 4) in the network "
        "(see net.n_layers_RNN, net.n_RNN_cell)"
    ) in text
    assert (
        "sed_student.cnn.cnn.glu1.linear.bias: missing in the checkpoint "
        "(see net.activation, net.nb_filters)"
    ) in text
    assert "sed_teacher.cnn.cnn.conv7.bias: not in the network" in text


def test_shapes_that_would_fill_the_memory_are_refused_before_they_do(tmp_path: Path) -> None:
    """A narrow file whose network would have gates of 10^6 by 10^6 channels."""
    content = published(small_spec(use_embeddings=False))
    n_channels = 10**6
    content["state_dict"]["sed_student.cnn.cnn.conv1.weight"] = torch.zeros(n_channels, 1, 1, 1)
    content["hyper_parameters"]["net"]["padding"] = [1, 0]
    text = refusal(content, tmp_path)
    assert f"glu1.linear.weight: shape (5, 5) in the checkpoint, {(n_channels, n_channels)}" in text


def test_a_file_without_its_networks_or_hyperparameters(tmp_path: Path) -> None:
    content = published(small_spec())
    state = content["state_dict"]
    shortened = {k: v for k, v in state.items() if not k.startswith("sed_")}
    assert "no sed_student.cnn.cnn.conv0.weight; it is not of this recipe" in refusal(
        {**content, "state_dict": shortened}, tmp_path
    )
    shortened = {k: v for k, v in state.items() if k != "mel_spec.mel_scale.fb"}
    assert "no mel_spec.mel_scale.fb" in refusal({**content, "state_dict": shortened}, tmp_path)
    narrow = {**state, "sed_student.cat_tf.weight": torch.zeros(5, 5)}
    assert "cat_tf.weight has shape (5, 5), which leaves no embedding beside" in refusal(
        {**content, "state_dict": narrow}, tmp_path
    )
    flat = {**state, "sed_student.dense.weight": torch.zeros(3)}
    assert "sed_student.dense.weight has shape (3,)" in refusal(
        {**content, "state_dict": flat}, tmp_path
    )
    for hyper in (None, {}, {"training": {}}, [1]):
        text = refusal({**content, "hyper_parameters": hyper}, tmp_path)
        assert "contains no hyper_parameters" in text
    text = refusal({**content, "hyper_parameters": {"net": 3}}, tmp_path)
    assert "hyper_parameters.net is 3, not a section of keys" in text


def test_a_diverged_training_is_said(tmp_path: Path) -> None:
    content = ours(small_spec())
    content["state_dict"]["sed_teacher.dense.weight"][0, :2] = float("nan")
    content["state_dict"]["sed_teacher.dense.bias"][3] = float("inf")
    text = refusal(content, tmp_path)
    assert "its training had diverged; use an earlier checkpoint" in text
    assert "sed_teacher.dense.weight: 2 of 216 values are not finite" in text
    assert "sed_teacher.dense.bias: 1 of 27 values" in text


@pytest.mark.parametrize("part", ["net", "feats", "scaler", "data"])
@pytest.mark.parametrize("value", [None, "x", -1, [[]], 1e400, torch.ones(2)])
def test_wrong_types_in_hyperparameters_end_in_one_message(
    part: str, value: Any, tmp_path: Path
) -> None:
    whole, messages = published(small_spec()), []
    # Of feats under the names that a front end has for them.
    names = {"hop_length": "front_end.hop_samples", "audio_max_len": "clip_s", "fs": "sample_rate"}
    for key in whole["hyper_parameters"][part]:
        content = deepcopy(whole)
        content["hyper_parameters"][part][key] = value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                loaded(content, tmp_path)  # where nothing reads the key or the tensors tell better
            except InputError as error:
                messages.append((names.get(key, key), str(error)))
    assert all(name in message for name, message in messages)


def test_it_moves_as_a_whole(tmp_path: Path) -> None:
    detector = loaded(ours(small_spec()), tmp_path).to("meta")
    modules = (detector.front_end, *detector.networks.values())
    values = [value for module in modules for value in module.state_dict().values()]
    assert len(values) > 60 and all(value.device.type == "meta" for value in values)


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    content = ours(small_spec())
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    loaded(content, tmp_path)
    assert torch.equal(torch.rand(1), expected)


def test_random_weights_are_alike_for_one_seed() -> None:
    one, other = tensors(small_spec(), 1), tensors(small_spec(), 1)
    assert all(torch.equal(one[name], other[name]) for name in one)
