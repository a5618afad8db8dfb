"""ONNX files against PyTorch, the published outputs and a tampered reference."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.encoder_specs import EncoderSpec, embedding_section
from desed_task.checkpoints.spec import DetectorSpec, build_detector, load_detector
from desed_task.encoders.beats.model import load_beats
from desed_task.encoders.concatenated import ConcatenatedEncoders
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.mel_spectrogram import PowerSpectrum
from desed_task.encoders.random_weights import write_random_encoder
from desed_task.errors import InputError
from desed_task.inference import onnx_export, verified_onnx
from desed_task.inference.onnx_export import example_clip, export_crnn, export_waveform
from desed_task.inference.onnx_modules import (
    ExportableCRNN,
    OnnxGRU,
    SpectrumByProduct,
    exportable_encoder,
    on_cpu,
    token_weights,
)
from desed_task.inference.verified_onnx import ONNX_TOLERANCE, write_verified
from desed_task.nnet import fusion
from desed_task.nnet.CRNN import CRNN
from tests.desed_task.checkpoints.example_checkpoints import small_spec, tensors

# Two blocks instead of seven: an export takes as long as it has operators.
SMALL = {
    "n_RNN_cell": 5,
    "kernel_size": [3, 3],
    "padding": [1, 1],
    "stride": [1, 1],
    "nb_filters": [4, 6],
    "pooling": [[2, 16], [2, 8]],
}
N_SAMPLES = 160000


@pytest.fixture(scope="module")
def reference(parity):
    with pytest.warns(UserWarning, match="n_layers_RNN"):
        return load_detector(parity("reference_tiny.ckpt"))


@pytest.fixture(scope="module")
def beats(parity):
    return load_beats(parity("beats_tiny.pt"))


@pytest.fixture(scope="module")
def waveform(parity):
    """(2, sample), the clips that the published outputs are of."""
    return torch.load(parity("front_end.pt"), weights_only=True)["waveform_int16"] / 32768


@pytest.fixture(scope="module")
def crnn_file(reference, tmp_path_factory):
    return export_crnn(reference, "teacher", tmp_path_factory.mktemp("onnx") / "crnn.onnx").path


@pytest.fixture(scope="module")
def exported(reference, beats, waveform, tmp_path_factory):
    """The waveform graph of the student, after BEATs was used as predicting uses it."""
    with torch.inference_mode():
        beats.embed(waveform[:1])
    target = tmp_path_factory.mktemp("onnx") / "detector.onnx"
    return export_waveform(reference, "student", target, beats=beats, clip=waveform[0])


def small(reference, **net):
    """A detector like `reference` with a small random network."""
    torch.manual_seed(0)
    spec = replace(reference.spec, net={**reference.spec.net, **SMALL, **net})
    return reference._replace(spec=spec, networks={"student": CRNN(**spec.net).eval()})


def run(path, **inputs: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {name: np.asarray(value) for name, value in inputs.items()}
    return [torch.from_numpy(output) for output in session.run(["strong", "weak"], given)]


def assert_same(found, expected, atol=1e-5):
    assert len(found) == len(expected) == 2
    for output, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(output, wanted, rtol=0, atol=atol)


def test_the_crnn_gives_the_published_outputs(parity, reference, crnn_file, waveform):
    io = torch.load(parity("reference_tiny_io.pt"), weights_only=True)
    mel, embeddings = reference.front_end(waveform), io["embeddings"].float()
    expected = io["teacher"]["strong"], io["teacher"]["weak"]
    assert_same(run(crnn_file, mel=mel, embeddings=embeddings), expected)
    first = run(crnn_file, mel=mel[:1], embeddings=embeddings[:1])
    assert_same(first, [output[:1] for output in expected])


def test_the_waveform_graph_gives_what_pytorch_gives(reference, exported, beats, waveform):
    clips = torch.stack([waveform[1], example_clip(N_SAMPLES, 16000), torch.zeros(N_SAMPLES)])
    with torch.no_grad():
        expected = reference.networks["student"](
            reference.front_end(clips), beats.embed(clips).frame
        )
    assert_same(run(exported.path, waveform=clips), expected)
    assert_same(run(exported.path, waveform=clips[:1]), [output[:1] for output in expected])
    assert set(exported.differences) == {"random", "sound", "silence"}
    assert all(0 <= apart < 1e-5 for apart in exported.differences.values())


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        ({"aggregation_type": "interpolate"}, (96, 496)),
        ({"aggregation_type": "frame"}, (96, 496)),
        ({"aggregation_type": "global", "embedding_type": "global"}, (96,)),
    ],
)
def test_every_aggregation(net, shape, reference, tmp_path):
    detector = small(reference, **net)
    path = export_crnn(detector, "student", tmp_path / "crnn.onnx").path
    mel, embeddings = torch.rand(3, 128, 626) * 2 - 1, torch.randn(3, *shape)
    with torch.no_grad():
        expected = detector.networks["student"](mel, embeddings)
    assert_same(run(path, mel=mel, embeddings=embeddings), expected)


def test_a_network_without_embeddings_needs_no_beats(beats, waveform, tmp_path):
    """Of other sizes, with dataset statistics."""
    scaler = {"statistic": "dataset", "normtype": "standard"}
    spec = small_spec(scaler=scaler, use_embeddings=False, attention=False, activation="cg")
    level = {
        "scaler.shift": torch.full((1, 1, 1), -25.0),
        "scaler.scale": torch.full((1, 1, 1), 9.0),
    }
    detector = build_detector(spec, {**tensors(spec), **level}, "small")
    path = export_waveform(detector, "student", tmp_path / "d.onnx", beats=beats).path
    with torch.no_grad():
        expected = detector.networks["student"](detector.front_end(waveform))
    assert expected.strong.shape == (2, 27, 250)
    assert_same(run(path, waveform=waveform), expected)
    assert "beats" not in metadata(path)


def metadata(path) -> dict[str, str]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map


def test_the_file_says_what_its_scores_mean(parity, reference, exported, crnn_file):
    told = {key: value for key, value in metadata(exported.path).items() if key != "detector"}
    spec = reference.spec
    assert (told.pop("graph"), told.pop("role")) == ("waveform", "student")
    values = {key: json.loads(value) for key, value in told.items()}
    (encoder,) = values.pop("encoders")
    assert (encoder["name"], encoder["width"], encoder["n_tokens"]) == ("beats", 96, 496)
    assert encoder["checkpoint_sha256"] == sha256_of(parity("beats_tiny.pt"))
    beats = values.pop("beats")
    assert (beats["encoder_layers"], beats["encoder_embed_dim"]) == (3, 96)
    assert values == {
        "classes": list(spec.classes),
        "sample_rate": 16000,
        "clip_s": 10.0,
        "n_samples": N_SAMPLES,
        "frame_s": 0.064,
        "median_filter": list(spec.median_filter),
        "decoder": spec.decoder,
        "embedding": {"model": "BEATs", "checkpoint_sha256": "", **spec.embedding},
        "schema_version": spec.schema_version,
    }
    told = metadata(crnn_file)
    assert (told["graph"], told["role"]) == ("crnn", "teacher")
    assert type(spec).from_dict(json.loads(told["detector"]), "x") == spec


def test_the_number_of_clips_is_free_and_nothing_else(exported):
    session = onnxruntime.InferenceSession(str(exported.path))
    shapes = {place.name: place.shape for place in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {
        "waveform": ["batch", N_SAMPLES],
        "strong": ["batch", 27, 156],
        "weak": ["batch", 27],
    }


def test_the_file_is_one_and_tells_no_paths(exported, crnn_file):
    for path in (exported.path, crnn_file):
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        assert b".py" not in path.read_bytes()


@pytest.mark.parametrize("aggregation", ["pool1d", "interpolate"])
def test_tokens_are_weighted_as_the_fusion_does_it(aggregation):
    weights = token_weights(aggregation, 156, 496)
    embeddings = torch.randn(2, 7, 496)
    align = {"pool1d": fusion.pool_tokens, "interpolate": fusion.nearest_tokens}[aggregation]
    expected = align(embeddings, 156).transpose(1, 2)
    torch.testing.assert_close(embeddings @ weights, expected, rtol=0, atol=1e-6)
    if aggregation == "pool1d":
        first, last = 100 * 496 // 156, math.ceil(101 * 496 / 156)
        assert weights[:, 100].nonzero().flatten().tolist() == list(range(first, last))


class Out(NamedTuple):
    out: Tensor


class Recurrent(nn.Module):
    def __init__(self, gru):
        super().__init__()
        self.gru = gru

    def forward(self, x):
        return Out(self.gru(x)[0])


@pytest.mark.parametrize("n_layers", [1, 3])
def test_the_operator_for_gru_layers(n_layers, tmp_path):
    torch.manual_seed(n_layers)
    gru = nn.GRU(4, 3, n_layers, batch_first=True, bidirectional=True).eval()
    for weight in gru.parameters():
        weight.data.normal_()
    checks = {"three": {"x": torch.randn(3, 20, 4)}, "one": {"x": torch.randn(1, 20, 4)}}
    graph, reference = Recurrent(OnnxGRU(gru)).eval(), Recurrent(gru).eval()
    assert max(write_verified(graph, reference, checks, {}, tmp_path / "gru.onnx").values()) < 1e-5


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return Out((x / x) * self.factor)


@pytest.mark.parametrize(
    ("factor", "x"), [(1 + 3 * ONNX_TOLERANCE, 1.0), (1.0, 0.0)], ids=["another factor", "NaN"]
)
def test_a_file_that_computes_something_else_is_not_kept(factor, x, tmp_path):
    target = tmp_path / "sub" / "m.onnx"
    checks = {"random": {"x": torch.ones(2, 3)}, "sound": {"x": torch.full((1, 3), x)}}
    with pytest.raises(InputError, match=r"m.onnx: not kept, .* by .* on sound .at most 0.0001"):
        write_verified(Scaled(1.0), Scaled(factor), checks, {}, target)
    assert list(target.parent.iterdir()) == []
    close = write_verified(
        Scaled(1.0), Scaled(1 + ONNX_TOLERANCE / 2), {"a": checks["random"]}, {}, target
    )
    assert close["a"] == pytest.approx(ONNX_TOLERANCE / 2, rel=0.01)
    before = target.read_bytes()
    with pytest.raises(InputError, match="not kept"):
        write_verified(Scaled(1.0), Scaled(2.0), checks, {}, target)
    assert target.read_bytes() == before


def test_missing_packages_are_named_with_the_command(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(
        verified_onnx, "find_spec", lambda name: None if name == "onnxscript" else 1
    )
    for export in (export_crnn, export_waveform):
        with pytest.raises(InputError, match=r"needs onnxscript, .*pip install .*\[export\]"):
            export(reference, "student", tmp_path / "x.onnx")


def test_what_cannot_be_exported_is_refused_before_work(reference, beats, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "write_verified", lambda *_: pytest.fail("was written"))
    target = tmp_path / "x.onnx"
    with pytest.raises(InputError, match="no network 'pupil'; known: student, teacher"):
        export_crnn(reference, "pupil", target)
    with pytest.raises(InputError, match=r"student takes embeddings, .* weights of BEATs"):
        export_waveform(reference, "student", target)
    other = small(reference, embedding_size=768)
    with pytest.raises(InputError, match="embeddings of 96 features, the network takes 768"):
        export_waveform(other, "student", target, beats=beats)
    with pytest.raises(InputError, match="embeddings of 96 features, the network takes 768"):
        export_crnn(other, "student", target, beats=beats)
    with pytest.raises(InputError, match=r"check with has shape \(2, 5\); give \(160000,\)"):
        export_crnn(reference, "student", target, clip=torch.zeros(2, 5))


def test_networks_are_left_as_they_are(reference):
    network = reference.networks["student"]
    before = list(network.named_modules())
    ExportableCRNN(network, n_frames=156, n_tokens=496)
    assert list(network.named_modules()) == before
    assert on_cpu(network) is network
    training = nn.Dropout().train()
    assert not on_cpu(training).training
    assert training.training


def test_the_example_clip_is_loud_in_places_and_silent_in_others():
    clip = example_clip(N_SAMPLES, 16000)
    assert clip.shape == (N_SAMPLES,) and clip.dtype == torch.float32
    assert 0.5 < clip.abs().max() <= 1
    assert not clip[-16000:].any()
    assert torch.equal(clip, example_clip(N_SAMPLES, 16000))


# ---- other encoders


def detector_for(encoder, *, n_blocks=0, **net):
    """A small detector of 2 s clips that takes an encoder's embeddings."""
    parts = [EncoderSpec(part.name, part.width, "", n_blocks) for part in encoder.parts]
    stored = small_spec(embedding_size=encoder.width, **net).to_dict()
    stored |= {"clip_s": 2.0, "embedding": embedding_section(encoder.width, parts)}
    spec = DetectorSpec.from_dict(stored, "small")
    return build_detector(spec, tensors(spec), "small")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Encoders of 64 features in two blocks, by name; loaded once."""
    folder = tmp_path_factory.mktemp("encoders")

    @functools.cache
    def load(name, n_blocks=None):
        path = folder / f"{name}.pt"
        if not path.exists():
            write_random_encoder(path, name, seed=3, width=64)
        return load_encoder(path, n_blocks=n_blocks)

    return load


@pytest.mark.parametrize("name", ["atst_frame", "fpasst", "asit", "m2d"])
def test_every_encoder_is_in_its_waveform_graph(name, tiny, tmp_path):
    encoder = tiny(name, 1)
    detector = detector_for(encoder, n_blocks=1)
    exported = export_waveform(detector, "student", tmp_path / "ä.onnx", encoder=encoder)
    assert max(exported.differences.values()) < ONNX_TOLERANCE / 2
    told = metadata(exported.path)
    assert json.loads(told["encoders"]) == [
        {
            "name": name,
            "width": encoder.width,
            "checkpoint_sha256": encoder.sha256,
            "n_blocks": 1,
            "n_tokens": encoder.n_tokens(32000),
        }
    ]
    assert json.loads(told["embedding"])["model"] == detector.spec.encoders[0].title
    assert "beats" not in told


@torch.no_grad()
@pytest.mark.parametrize("aggregation", ["pool1d", "interpolate", "global"])
def test_joined_encoders_export_as_they_are(aggregation, tiny):
    both = ConcatenatedEncoders([tiny("m2d"), tiny("atst_frame")], 31, aggregation)
    clips = 0.1 * torch.randn(2, 32000)
    found, wanted = exportable_encoder(both, 32000).embed(clips), both.embed(clips)
    torch.testing.assert_close(found.frame, wanted.frame, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.global_, wanted.global_, rtol=0, atol=1e-5)
    one = exportable_encoder(tiny("m2d"), 32000)
    torch.testing.assert_close(one(clips), tiny("m2d")(clips), rtol=0, atol=1e-4)
    assert isinstance(tiny("m2d").power_spectrum, PowerSpectrum)


@pytest.mark.parametrize(("window", "n_fft"), [(400, 400), (400, 512), (1024, 1024)])
def test_spectra_by_products_are_those_of_the_transform(window, n_fft):
    spectrum = PowerSpectrum(torch.hann_window(window), n_fft)
    clips = torch.randn(2, 4321)
    found, wanted = SpectrumByProduct(spectrum)(clips), spectrum(clips)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.max()))


def test_two_encoders_are_in_one_graph(tiny, tmp_path):
    encoders = [tiny("beats"), tiny("m2d")]
    n_frames = detector_for(ConcatenatedEncoders(encoders, 1, "pool1d")).spec.grid.n_frames
    both = ConcatenatedEncoders(encoders, n_frames, "pool1d")
    detector = detector_for(both)
    exported = export_waveform(detector, "teacher", tmp_path / "both.onnx", encoder=both)
    told = metadata(exported.path)
    assert [one["name"] for one in json.loads(told["encoders"])] == ["beats", "m2d"]
    assert json.loads(told["beats"])["encoder_layers"] == 2
    assert json.loads(told["embedding"])["model"] == "BEATs+M2D"
    clips = torch.stack([example_clip(32000, 16000), torch.zeros(32000)])
    with torch.no_grad():
        expected = detector.networks["teacher"](detector.front_end(clips), both.embed(clips).frame)
    assert_same(run(exported.path, waveform=clips), expected, ONNX_TOLERANCE)
    turned = ConcatenatedEncoders(encoders[::-1], n_frames, "pool1d")
    with pytest.raises(InputError, match=r"network are in the order beats.m2d; join them in that"):
        export_waveform(detector, "teacher", tmp_path / "both.onnx", encoder=turned)


def test_the_crnn_alone_needs_the_number_of_tokens(tiny, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(onnx_export, "write_verified", lambda *a: given.append(a[2]) or {})
    encoder = tiny("atst_frame")
    detector = detector_for(encoder)
    with pytest.raises(InputError, match="how many tokens ATST-Frame has in a clip is not known"):
        export_crnn(detector, "student", tmp_path / "a.onnx")
    export_crnn(detector, "student", tmp_path / "a.onnx", encoder=encoder)
    one = detector.spec.encoders[0]._replace(n_tokens=encoder.n_tokens(32000))
    spec = replace(detector.spec, embedding=embedding_section(64, [one]))
    export_crnn(detector._replace(spec=spec), "student", tmp_path / "a.onnx")
    shapes = [inputs["random"]["embeddings"].shape for inputs in given]
    assert shapes == [(3, 64, 50), (3, 64, 50)]
    with pytest.raises(InputError, match="this m2d: holds M2D, but the network was trained with"):
        export_crnn(detector, "student", tmp_path / "a.onnx", encoder=tiny("m2d"))
    spec = replace(spec, embedding=embedding_section(64, [one._replace(n_tokens=49)]))
    with pytest.raises(InputError, match="yields 50 tokens per clip, the network takes 49"):
        export_crnn(detector._replace(spec=spec), "student", tmp_path / "a", encoder=encoder)
