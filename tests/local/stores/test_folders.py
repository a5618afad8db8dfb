"""Folders of embeddings: which is whose, with the weights on this machine and without."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np
import pytest

from desed_task.dataio.embeddings import FRAME, GLOBAL, NAMES, EmbeddingReader
from local.config import load_config
from local.data.corpus_checks import no_embeddings
from local.schema.encoders import EncoderChoice, Pretrained
from local.stores import folders
from local.stores.folders import folder_to_read, folder_to_write, folders_to_read, why_foreign
from local.stores.identity import identity_of
from local.stores.joined import JoinedReader
from local.stores.size import with_embedding_size

ROOT = Path(__file__).parents[3]
A, B = "a1" * 32, "b2" * 32


def store(folder: Path, name: str = "devtest.hdf5", n_features: int = 4, **identity) -> Path:
    """A file of embeddings of two clips."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with h5py.File(path, "w") as file:
        file[FRAME] = np.ones((2, n_features, 3), dtype=np.float32)
        file[GLOBAL] = np.ones((2, n_features), dtype=np.float32)
        file[NAMES] = ["ä/1", "2"]
        file.attrs.update(identity)
    return path


def weights(path: Path, content: bytes = b"some weights") -> tuple[str, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path), sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (EncoderChoice("beats", "x/BEATs_iter3_plus_AS2M.pt", None), "beats"),
        (EncoderChoice("beats", "x/BEATS_iter3_plus_AS2M.pt", None), "beats"),
        (EncoderChoice("beats", "beats_mini.pt", None), "beats"),
        (EncoderChoice("beats", "of any name.pt", None, True), "beats"),
        (EncoderChoice("beats", "of any name.pt", 3, True), "beats-a1a1a1a1-first3"),
        (EncoderChoice("beats", "beats_mini.pt", 10), "beats-a1a1a1a1-first10"),
        (EncoderChoice("beats", "BEATs_strong_1.pt", None), "beats-a1a1a1a1"),
        # A file's name says nothing of another encoder.
        (EncoderChoice("m2d", "beats_mini.pt", None), "m2d-a1a1a1a1"),
        (EncoderChoice("m2d", "M2D_strong_1.pt", 3), "m2d-a1a1a1a1-first3"),
    ],
)
def test_the_folder_that_embeddings_go_to(tmp_path, choice, name):
    assert folder_to_write(tmp_path, choice, A) == tmp_path / name


def test_embeddings_of_an_earlier_version_stay_in_use(tmp_path):
    """It wrote those of any BEATs weights to beats/, and published ones say nothing."""
    mine = EncoderChoice("beats", "/models/meine Gewichte.pt", None)
    store(tmp_path / "beats", checkpoint_sha256=A, clip_s=10.0)
    assert folder_to_write(tmp_path, mine, A) == tmp_path / "beats"
    assert folder_to_write(tmp_path, mine, B) == tmp_path / "beats-b2b2b2b2"  # not overwritten
    assert folder_to_write(tmp_path, mine._replace(n_blocks=2), A).name == "beats-a1a1a1a1-first2"
    store(tmp_path / "published" / "beats")
    assert folder_to_write(tmp_path / "published", mine, B) == tmp_path / "published" / "beats"
    strong = mine._replace(file="/models/BEATs_strong_1.pt")  # of which no published ones are
    assert folder_to_write(tmp_path / "published", strong, B).name == "beats-b2b2b2b2"
    store(tmp_path / "begun" / "beats", "eval.hdf5.part", checkpoint_sha256=B, clip_s=10.0)
    assert folder_to_write(tmp_path / "begun", mine, B) == tmp_path / "begun" / "beats"
    assert folder_to_write(tmp_path / "begun", mine, A).name == "beats-a1a1a1a1"
    store(tmp_path / "damaged" / "beats").write_bytes(b"no file")
    assert folder_to_write(tmp_path / "damaged", mine, B).name == "beats-b2b2b2b2"


def test_what_old_files_record_is_what_new_ones_of_beats_do(tmp_path):
    path = store(tmp_path, checkpoint_sha256=A, clip_s=10.0)
    beats = EncoderChoice("beats", "beats_mini.pt", None)
    assert EmbeddingReader(path).identity == identity_of(beats, A, 10.0)
    other = identity_of(EncoderChoice("m2d", "x.pt", 10), A, 10.0)
    path = store(tmp_path, **other)
    assert EmbeddingReader(path).identity == other != identity_of(beats, A, 10.0)


def test_the_weights_on_this_machine_name_the_folder(tmp_path, monkeypatch):
    file, digest = weights(tmp_path / "Gewichte.pt")
    choice = EncoderChoice("asit", file, None)
    found = folder_to_read(tmp_path / "stores", choice)
    assert found.path.name == f"asit-{digest[:8]}" and not found.note + found.problem
    monkeypatch.setattr(folders, "sha256_of", None)  # read once, however often it is asked for
    assert folder_to_read(tmp_path / "stores", choice) == found
    monkeypatch.undo()
    _, digest = weights(tmp_path / "Gewichte.pt", b"other weights")
    assert folder_to_read(tmp_path / "stores", choice).path.name == f"asit-{digest[:8]}"


def test_without_weights_the_only_folder_is_taken_and_named(tmp_path):
    choice = EncoderChoice("fpasst", "absent.pt", None)
    found = folder_to_read(tmp_path, choice)
    assert found.problem == (
        f"{tmp_path / 'fpasst-????????'}: no embeddings of fPaSST, and its weights absent.pt are "
        "not here; run extract_embeddings.py"
    )
    store(tmp_path / "fpasst-a1a1a1a1-first4")  # of other blocks
    store(tmp_path / "fpasst-own")  # of somebody
    (tmp_path / "fpasst-00000000").mkdir()  # of nothing
    assert folder_to_read(tmp_path, choice).problem
    store(tmp_path / "fpasst-a1a1a1a1")
    found = folder_to_read(tmp_path, choice)
    assert found.path.name == "fpasst-a1a1a1a1" and not found.problem
    assert "taken as the embeddings of fPaSST, as it is the only folder of them" in found.note
    assert folder_to_read(tmp_path, choice._replace(n_blocks=4)).path.name.endswith("-first4")
    store(tmp_path / "fpasst-b2b2b2b2")
    found = folder_to_read(tmp_path, choice)
    assert "2 folders have embeddings of fPaSST (fpasst-a1a1a1a1, fpasst-b2b2b2b2)" in found.problem
    assert "put it there, or move all but one of them away" in found.problem


def test_beats_without_weights_are_those_in_beats_unless_others_are_there_too(tmp_path):
    default = EncoderChoice("beats", "no/BEATs_iter3_plus_AS2M.pt", None)
    mine = default._replace(file="no/mine.pt")
    assert folder_to_read(tmp_path, default).path == tmp_path / "beats"
    assert folder_to_read(tmp_path, mine).problem.startswith(f"{tmp_path / 'beats'}: no embeddings")
    store(tmp_path / "beats")
    for choice in (default, mine):  # as in earlier versions
        assert folder_to_read(tmp_path, choice) == (choice, tmp_path / "beats", "", "")
    store(tmp_path / "beats-a1a1a1a1")
    assert folder_to_read(tmp_path, default).path == tmp_path / "beats"
    assert (
        "2 folders have embeddings of BEATs (beats, beats-"
        in folder_to_read(tmp_path, mine).problem
    )


def test_a_file_in_a_folder_of_others_is_told(tmp_path):
    choice = EncoderChoice("m2d", "absent.pt", None)
    store(tmp_path / "m2d-a1a1a1a1")
    folder = folder_to_read(tmp_path, choice)
    assert why_foreign(folder, {}) == ""  # of another program
    assert why_foreign(folder, identity_of(choice, A, 10.0)) == ""
    assert why_foreign(folder, identity_of(choice, A, 1.0)) == ""
    for other, sha, told in (
        (choice._replace(name="beats"), A, "of beats, not of m2d"),
        (choice._replace(n_blocks=1), A, "of the first 1 block, not of all blocks"),
        (choice, B, "of other weights (SHA-256 b2b2b2b2b2b2)"),
    ):
        assert told in why_foreign(folder, identity_of(other, sha, 10.0))
    default = folder_to_read(tmp_path, EncoderChoice("beats", "beats_mini.pt", None))
    assert why_foreign(default, identity_of(default.choice, B, 10.0)) == ""  # the doctor tells


def test_no_embeddings_of_an_encoder_is_said_once_with_what_there_is_instead(tmp_path):
    store(tmp_path / "beats-a1a1a1a1")
    values = (f"pretrained.extracted_embeddings_dir={tmp_path}", "pretrained.model=[beats, m2d]")
    config = load_config(ROOT / "confs" / "pretrained.yaml", values)
    beats, m2d = no_embeddings(config, config.detection_task.evaluated)
    assert beats == (
        f"{tmp_path / 'beats'}: contains no embeddings of any set; run extract_embeddings.py with "
        "--eval_set, or name the weights of those in beats-a1a1a1a1 (pretrained.checkpoint, "
        "pretrained.n_blocks)"
    )
    assert m2d.startswith(f"{tmp_path / 'm2d-????????'}: no embeddings of M2D, and its ")
    assert m2d.endswith("run extract_embeddings.py with --eval_set")
    unused_by = config.model_copy(update={"net": unused(config)})
    assert not no_embeddings(unused_by, config.detection_task.evaluated)


def unused(config):
    return config.net.model_copy(update={"use_embeddings": False})


def test_the_number_of_features_is_that_of_the_stores(tmp_path):
    where = f"pretrained.extracted_embeddings_dir={tmp_path}"

    def size(conf: str, *values: str) -> int:
        config = load_config(ROOT / "confs" / f"{conf}.yaml", [where, *values])
        return with_embedding_size(config).net.embedding_size

    # Before anything is extracted: that of published weights and of the mini corpus.
    assert (size("pretrained"), size("mini")) == (768, 128)
    assert size("pretrained", "pretrained.model=m2d") == 3840
    assert size("pretrained", "pretrained.model=[m2d, asit]") == 3840 + 768
    store(tmp_path / "beats", "a.hdf5").write_bytes(b"damaged")
    store(tmp_path / "beats", "b.hdf5", n_features=6)
    store(tmp_path / "m2d-a1a1a1a1", n_features=20)
    free = "net.embedding_size=null"
    assert (size("pretrained", free), size("mini", free)) == (6, 6)
    assert (size("pretrained"), size("mini")) == (768, 128)  # checked with the data
    assert size("mini", "pretrained.model=[m2d, beats]") == 26  # a file's number is about BEATs
    assert size("mini", "net.embedding_size=5", "pretrained.model=m2d") == 5
    assert size("mini", "net.use_embeddings=false") == 128


def test_joined_identities_name_each_part(tmp_path):
    beats = EmbeddingReader(store(tmp_path, "1.hdf5", checkpoint_sha256=A, clip_s=10.0))
    other = {"checkpoint_sha256": B, "clip_s": 10.0, "encoder": "asit", "precision": "bf16"}
    asit = EmbeddingReader(store(tmp_path, "2.hdf5", **other))
    assert JoinedReader([beats, asit], 5, "pool1d").identity == {
        "checkpoint_sha256": f"{A}+{B}",
        "clip_s": 10.0,
        "encoder": "beats+asit",
        "precision": "32+bf16",
    }
    unknown = EmbeddingReader(store(tmp_path, "3.hdf5"))
    assert JoinedReader([beats, unknown], 5, "pool1d").identity == {}


def test_clips_of_joined_files_are_found_under_the_names_of_each(tmp_path):
    first = store(tmp_path, "1.hdf5")
    second = store(tmp_path, "2.hdf5", n_features=2)
    with h5py.File(second, "r+") as file:
        del file[NAMES]
        file[NAMES] = ["1", "3"]
    joined = JoinedReader([EmbeddingReader(first), EmbeddingReader(second)], 5, "pool1d")
    assert joined.match(["ä/1", "2", "3"]) == {"ä/1": "ä/1"}
    assert joined.missing(["ä/1", "2", "3"]) == ["2", "3"]
    assert joined.frame("ä/1").shape == (6, 5) and joined.global_("ä/1").shape == (6,)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"model": "beatz"}, "no encoder 'beatz'; known: beats, atst_frame, fpasst, asit, m2d"),
        ({"model": ["beats", "beats"]}, "give one encoder, or several different ones"),
        ({"model": []}, "give one encoder, or several different ones"),
        ({"checkpoint": ["a.pt", "b.pt"]}, "checkpoint has 2 values for 1 encoder"),
        ({"model": ["beats", "m2d"], "checkpoint": "a.pt"}, "checkpoint has 1 value for 2 enco"),
        ({"model": ["beats", "m2d"], "n_blocks": [1, 2, 3]}, "n_blocks has 3 values for 2"),
        ({"n_blocks": 0}, "give a number of blocks from 1 on, null for all, or a list"),
        ({"n_blocks": True}, "give a number of blocks"),
        ({"model": ["beats", "m2d"], "n_blocks": [1, 1.5]}, "give a number of blocks"),
        ({"model": None}, "give the name of an encoder, or a list"),
        ({"model": ["beats", None]}, "give the name of an encoder, or a list"),
        ({"checkpoint": 3}, "give a file of weights, null for the default one, or a list"),
    ],
)
def test_encoders_that_cannot_be_are_refused(values, told):
    with pytest.raises(ValueError, match=told):
        Pretrained(**values)


def test_a_list_of_one_encoder_is_that_encoder():
    one = Pretrained(model=["m2d"], checkpoint=["a.pt"], n_blocks=[3])
    assert one == Pretrained(model="m2d", checkpoint="a.pt", n_blocks=3)
    assert folders_to_read(one)[0].choice == EncoderChoice("m2d", "a.pt", 3)
