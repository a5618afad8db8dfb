"""The BEATs weights of a checkpoint are found wherever the command is started."""

import re

import pytest

from desed_task.atomic_files import sha256_of
from desed_task.errors import InputError
from desed_task.inference.encoder_files import find_encoder

HYPER = {"pretrained": {"beats_checkpoint": "./weights/beats.pt"}}


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
        found = find_encoder(checkpoint.relative_to(folder), HYPER, known)
        assert found.samefile(folder / "weights/beats.pt")


def test_from_elsewhere_it_is_found_above_the_checkpoint(project, tmp_path, monkeypatch):
    folder, checkpoint = project
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_encoder(checkpoint, HYPER, "").samefile(folder / "weights/beats.pt")


def test_other_weights_are_passed_over(project, tmp_path, monkeypatch):
    """The working folder is looked in first, but may belong to another training."""
    folder, checkpoint = project
    (tmp_path / "elsewhere" / "weights").mkdir()
    (tmp_path / "elsewhere" / "weights" / "beats.pt").write_bytes(b"others")
    monkeypatch.chdir(tmp_path / "elsewhere")
    right = folder / "weights/beats.pt"
    assert find_encoder(checkpoint, HYPER, sha256_of(right)).samefile(right)
    # A checkpoint that does not tell takes the first.
    assert find_encoder(checkpoint, HYPER, "").samefile("weights/beats.pt")
    right.unlink()
    with pytest.raises(InputError, match=r"weights/beats.pt contains other weights; give their"):
        find_encoder(checkpoint, HYPER, "0" * 64)


def test_an_absolute_path_is_taken_as_it_is(project, tmp_path):
    _, checkpoint = project
    (tmp_path / "cluster.pt").write_bytes(b"x")
    hyper = {"pretrained": {"beats_checkpoint": str(tmp_path / "cluster.pt")}}
    assert find_encoder(checkpoint, hyper, "") == tmp_path / "cluster.pt"


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
    found = find_encoder(checkpoint, hyper, "")
    assert found.samefile(folder / "pretrained_models" / name)


def test_what_is_found_nowhere_is_named_with_the_places(project):
    folder, checkpoint = project
    (folder / "weights/beats.pt").unlink()
    expected = (
        f"{checkpoint}: the BEATs weights that its network was trained with (SHA-256 "
        f"abcabcabcabc...) are not found: no ./weights/beats.pt, "
        f"pretrained_models/BEATs_iter3_plus_AS2M.pt in {folder}, beside the checkpoint or in a "
        "folder above it; give their file (--pretrained_model, in Python `beats`)"
    )
    with pytest.raises(InputError, match=f"^{re.escape(expected)}$"):
        find_encoder(checkpoint, HYPER, "abc" * 20)
