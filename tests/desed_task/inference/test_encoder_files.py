"""The encoders of a checkpoint are found wherever the command is started, and loaded."""

import re

import pytest
import torch

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.encoder_specs import EncoderSpec, embedding_section
from desed_task.encoders.concatenated import ConcatenatedEncoders
from desed_task.encoders.loading import load_encoder
from desed_task.errors import InputError
from desed_task.inference.encoder_files import encoder_of_checkpoint, find_encoder
from tests.desed_task.checkpoints.example_checkpoints import small_spec
from tests.desed_task.inference.example_encoders import write_tiny_atst, write_tiny_beats

HYPER = {"pretrained": {"beats_checkpoint": "./weights/beats.pt"}}


def beats(sha256=""):
    return EncoderSpec("beats", 0, sha256)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which a training was started, as the working folder; and its checkpoint."""
    (tmp_path / "Projekt Ä" / "weights").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    folder = tmp_path / "Projekt Ä"
    (folder / "weights" / "beats.pt").write_bytes(b"trained with")
    run = folder / "exp" / "mini" / "version_0" / "checkpoints"
    run.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder, run / "epoch=1.ckpt"


def test_from_the_folder_of_the_training_the_path_is_that_of_the_checkpoint(project):
    folder, checkpoint = project
    sha256 = sha256_of(folder / "weights/beats.pt")
    for known in ("", sha256):
        found = find_encoder(checkpoint.relative_to(folder), HYPER, beats(known))
        assert found.samefile(folder / "weights/beats.pt")


def test_from_elsewhere_it_is_found_above_the_checkpoint(project, tmp_path, monkeypatch):
    folder, checkpoint = project
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_encoder(checkpoint, HYPER, beats()).samefile(folder / "weights/beats.pt")


def test_other_weights_are_passed_over(project, tmp_path, monkeypatch):
    """The working folder is looked in first, but may belong to another training."""
    folder, checkpoint = project
    (tmp_path / "elsewhere" / "weights").mkdir()
    (tmp_path / "elsewhere" / "weights" / "beats.pt").write_bytes(b"others")
    monkeypatch.chdir(tmp_path / "elsewhere")
    right = folder / "weights/beats.pt"
    assert find_encoder(checkpoint, HYPER, beats(sha256_of(right))).samefile(right)
    # A checkpoint that does not tell takes the first.
    assert find_encoder(checkpoint, HYPER, beats()).samefile("weights/beats.pt")
    right.unlink()
    with pytest.raises(InputError, match=r"weights/beats.pt contains other weights; give their"):
        find_encoder(checkpoint, HYPER, beats("0" * 64))


def test_an_absolute_path_is_taken_as_it_is(project, tmp_path):
    _, checkpoint = project
    (tmp_path / "cluster.pt").write_bytes(b"x")
    hyper = {"pretrained": {"beats_checkpoint": str(tmp_path / "cluster.pt")}}
    assert find_encoder(checkpoint, hyper, beats()) == tmp_path / "cluster.pt"


@pytest.mark.parametrize("name", ["BEATs_iter3_plus_AS2M.pt", "BEATS_iter3_plus_AS2M.pt"])
@pytest.mark.parametrize(
    "hyper", [None, {}, {"pretrained": None}, {"pretrained": {"beats_checkpoint": 3}}, HYPER]
)
def test_the_usual_file_is_tried_too_in_both_spellings(project, name, hyper):
    """Published checkpoints name none; one that names a file may have come without it."""
    folder, checkpoint = project
    (folder / "weights/beats.pt").unlink()
    (folder / "pretrained_models").mkdir()
    (folder / "pretrained_models" / name).write_bytes(b"published")
    found = find_encoder(checkpoint, hyper, beats())
    assert found.samefile(folder / "pretrained_models" / name)


def test_what_is_found_nowhere_is_named_with_the_places(project):
    folder, checkpoint = project
    (folder / "weights/beats.pt").unlink()
    expected = (
        f"{checkpoint}: the BEATs weights that its network was trained with (SHA-256 "
        f"abcabcabcabc...) are not found: no ./weights/beats.pt, "
        f"pretrained_models/BEATs_iter3_plus_AS2M.pt in {folder}, beside the checkpoint or in a "
        "folder above it; give their file (--pretrained_model, in Python `encoder`)"
    )
    with pytest.raises(InputError, match=f"^{re.escape(expected)}$"):
        find_encoder(checkpoint, HYPER, beats("abc" * 20))


@pytest.mark.parametrize(
    "section",
    [
        {"model": "atst_frame", "checkpoint": "weights/ätst.pt"},
        {"model": "ATST-Frame", "checkpoint": ["weights/ätst.pt"]},
        {"model": ["beats", "atst_frame"], "checkpoint": [None, "weights/ätst.pt"]},
        {"model": ("atst_frame", "m2d"), "checkpoint": ("weights/ätst.pt", "weights/beats.pt")},
    ],
)
def test_the_path_of_each_encoder_is_found(project, section):
    folder, checkpoint = project
    (folder / "weights" / "ätst.pt").write_bytes(b"atst")
    found = find_encoder(checkpoint, {"pretrained": section}, EncoderSpec("atst_frame"))
    assert found.samefile(folder / "weights/ätst.pt")


@pytest.mark.parametrize(
    "section",
    [
        {"model": "atst_frame"},
        {
            "model": "beats",
            "checkpoint": "weights/beats.pt",
            "beats_checkpoint": "weights/beats.pt",
        },
        {"model": ["beats", "atst_frame"], "checkpoint": ["weights/beats.pt"]},
        {"model": ["beats", "atst_frame"], "checkpoint": "weights/beats.pt"},
        {"model": {"atst_frame": 1}, "checkpoint": 3},
        {"model": "atst_frame", "checkpoint": "a\0b"},
        {"model": "atst_frame", "checkpoint": ""},
        {"model": [3, None], "checkpoint": [["weights/beats.pt"], {}]},
    ],
)
def test_an_encoder_without_a_path_has_its_default_file(project, section):
    folder, checkpoint = project
    one = EncoderSpec("atst_frame", 0, "ab" * 32)
    with pytest.raises(InputError) as error:
        find_encoder(checkpoint, {"pretrained": section}, one)
    message = "the ATST-Frame weights that its network was trained with (SHA-256 abababababab...)"
    assert message in str(error.value)
    assert "are not found: no pretrained_models/ATST-F_strong_1.pt in" in str(error.value)
    (folder / "pretrained_models").mkdir()
    usual = folder / "pretrained_models" / "ATST-F_strong_1.pt"
    usual.write_bytes(b"atst")
    with pytest.raises(InputError, match=r"ATST-F_strong_1.pt contains other weights; give their"):
        find_encoder(checkpoint, {"pretrained": section}, one)
    one = one._replace(checkpoint_sha256=sha256_of(usual))
    assert find_encoder(checkpoint, {"pretrained": section}, one).samefile(usual)


# ---- loaded


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("Gewichte ä")
    return {
        "beats": write_tiny_beats(folder / "beats.pt"),
        "atst_frame": write_tiny_atst(folder / "atst, zwei.pt"),
    }


BEATS, ATST = EncoderSpec("beats", 32), EncoderSpec("atst_frame", 64)


def spec_of(*encoders, **net):
    size = sum(one.width for one in encoders)
    spec = small_spec(embedding_size=size, **net)
    stored = {**spec.to_dict(), "embedding": embedding_section(size, encoders)}
    return type(spec).from_dict(stored, "here")


def opened(spec, given=None, **pretrained):
    checkpoint = {"hyper_parameters": {"pretrained": pretrained}}
    return encoder_of_checkpoint("absent/a.ckpt", checkpoint, spec, given)


@torch.no_grad()
def test_one_or_several_are_loaded_from_where_the_checkpoint_says(files):
    (one,) = opened(spec_of(ATST), model="atst_frame", checkpoint=str(files["atst_frame"])).parts
    assert (one.name, one.width, one.sha256) == ("atst_frame", 64, sha256_of(files["atst_frame"]))
    both = opened(
        spec_of(ATST, BEATS._replace(n_blocks=1), aggregation_type="interpolate"),
        model=["beats", "atst_frame"],
        checkpoint=[str(files["beats"]), str(files["atst_frame"])],
    )
    assert isinstance(both, ConcatenatedEncoders)
    # In the order of the network, not of the configuration.
    assert (both.name, both.width, both.aggregation) == ("atst_frame+beats", 96, "interpolate")
    assert [len(part.layers) for part in both.parts] == [2, 1]
    assert both.embed(torch.zeros(1, 160000)).frame.shape == (1, 96, spec_of(BEATS).grid.n_frames)


def test_without_embeddings_there_is_none(files):
    assert opened(small_spec(use_embeddings=False), files["beats"]) is None


def test_given_files_are_recognised_by_what_they_hold(files):
    spec = spec_of(BEATS, ATST)
    paths = [str(files["atst_frame"]), files["beats"]]
    for given in (paths, tuple(paths[::-1]), {**files, "m2d": "absent.pt"}):
        assert opened(spec, given).name == "beats+atst_frame"
    # What is not given is looked for.
    found = opened(spec, [paths[0]], beats_checkpoint=str(files["beats"]))
    assert found.name == "beats+atst_frame"
    assert opened(spec_of(ATST), paths[0]).name == "atst_frame"


def test_given_encoders_are_put_in_order(files):
    beats, atst = (load_encoder(path) for path in files.values())
    given = ConcatenatedEncoders([atst, beats], 7, "pool1d")
    found = opened(spec_of(BEATS, ATST), given)
    assert (found.name, found.n_frames) == ("beats+atst_frame", spec_of(BEATS).grid.n_frames)
    assert opened(spec_of(BEATS), beats) is beats
    with pytest.raises(InputError, match=r"this atst_frame: holds ATST-Frame, but .* of BEATs;"):
        opened(spec_of(BEATS), atst)
    with pytest.raises(InputError, match=r"beats was given, but .* BEATs and ATST-Frame; give all"):
        opened(spec_of(BEATS, ATST), beats)
    with pytest.raises(InputError, match=r"holds ATST-Frame, but"):
        opened(spec_of(BEATS), given)
    with pytest.raises(InputError, match=r"has 2 blocks, .* BEATs \(1 block\); load it with n_bl"):
        opened(spec_of(BEATS._replace(n_blocks=1)), beats)


def test_what_does_not_fit_is_refused_by_name(files, tmp_path):
    beats, atst = files["beats"], files["atst_frame"]
    with pytest.raises(InputError, match=rf"{atst}: holds ATST-Frame, .* of BEATs; give the w"):
        opened(spec_of(BEATS), atst)
    with pytest.raises(InputError, match="holds ATST-Frame"):
        opened(spec_of(BEATS), {"beats": atst})
    with pytest.raises(InputError, match=rf"{beats} and .*copy.pt both hold BEATs; give one"):
        opened(spec_of(BEATS, ATST), [beats, write_tiny_beats(tmp_path / "copy.pt"), atst])
    with pytest.raises(InputError, match=r"absent.pt: no such file of weights.* BEATs and ATST"):
        opened(spec_of(BEATS, ATST), [beats, "absent.pt"])
    with pytest.raises(InputError, match=r"has 2 blocks, .* trained with BEATs .3 blocks.; give"):
        opened(spec_of(BEATS._replace(n_blocks=3)), beats)
    with pytest.raises(InputError, match="embeddings of 32 features, the network takes 30"):
        opened(spec_of(BEATS._replace(width=30), ATST), [beats, atst])
    with pytest.raises(InputError, match="the ATST-Frame weights that its network was trained"):
        opened(spec_of(BEATS, ATST), beats)


def test_other_weights_are_warned_of_encoder_by_encoder(files, recwarn):
    right = [
        EncoderSpec(name, width, sha256_of(files[name]))
        for name, width in (("beats", 32), ("atst_frame", 64))
    ]
    opened(spec_of(*right), list(files.values()))
    assert not recwarn.list
    other = right[1]._replace(checkpoint_sha256="0" * 64)
    with pytest.warns(UserWarning, match=r"atst, zwei.pt: not the weights that the net") as found:
        opened(spec_of(right[0], other), list(files.values()))
    assert len(found) == 1
    with pytest.warns(UserWarning, match=r"this atst_frame: not the weights that the network was"):
        opened(spec_of(other), load_encoder(files["atst_frame"]))
