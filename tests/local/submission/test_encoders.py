"""Size, cost and pre-training of the encoders of a submission."""

from pathlib import Path

import pytest
import torch

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.spec import SPEC_KEY
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.macs import encoder_macs
from desed_task.errors import InputError
from local.checkpoints.restore import detector_spec
from local.config import load_config
from local.sed_trainer_pretrained import SEDTask4
from local.stores.size import with_embedding_size
from local.submission.encoders import encoder_costs, system_costs, titles
from tests.desed_task.inference.example_encoders import write_tiny_atst, write_tiny_beats

MINI = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"
CLIP_S = 3.3


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    beats = write_tiny_beats(folder / "BEATS_iter3_plus_AS2M.pt")
    return {"beats": beats, "atst_frame": write_tiny_atst(folder / "ATST-F_weak.pt")}


def config_of(*sets):
    return load_config(MINI, list(sets))


def both(files):
    return [
        "pretrained.model=[beats, atst_frame]",
        f"pretrained.checkpoint=[{files['beats']}, {files['atst_frame']}]",
        "pretrained.n_blocks=[null, 1]",
    ]


def test_every_encoder_counts(files):
    config = config_of(*both(files))
    found = encoder_costs(config, (), CLIP_S)
    assert [one.name for one in found] == ["BEATs", "ATST-Frame (1 block)"]
    assert [one.pretraining for one in found] == ["self-supervised", "AudioSet, labels of clips"]
    assert titles(config) == ["BEATs", "ATST-Frame"]
    for one, path, n_blocks in zip(found, files.values(), (None, 1), strict=True):
        encoder = load_encoder(path, n_blocks=n_blocks)
        assert one.checkpoint_sha256 == sha256_of(path)
        assert one.parameters == encoder.n_parameters()
        assert one.macs == encoder_macs(encoder, 52800)


def test_given_files_are_recognised_and_say_nothing_of_others(files, tmp_path):
    moved = write_tiny_atst(tmp_path / "moved.pt", seed=7)
    found = encoder_costs(config_of(*both(files)), (moved, files["beats"]), CLIP_S)
    assert [one.pretraining for one in found] == ["self-supervised", None]
    assert found[1].checkpoint_sha256 == sha256_of(moved)
    with pytest.raises(InputError, match=r"holds ATST-Frame, but .* of BEATs.*with --encoder"):
        encoder_costs(config_of(), (moved,), CLIP_S)


def test_what_is_missing_is_named_with_the_flag(files):
    sets = ["pretrained.model=atst_frame", "pretrained.checkpoint=weg/ä.pt"]
    with pytest.raises(InputError, match=r"weg/ä.pt: no such file of ATST-Frame .* with --encoder"):
        encoder_costs(config_of(*sets), (), CLIP_S)
    assert encoder_costs(config_of("net.use_embeddings=false"), (), CLIP_S) == ()


def test_weights_of_one_encoder_go_to_the_networks_that_were_trained_with_them(files, tmp_path):
    other = write_tiny_atst(tmp_path / "other.pt", seed=7)
    lost = config_of("pretrained.model=atst_frame", "pretrained.checkpoint=weg.pt")
    networks = []
    for path in (files["atst_frame"], other):
        here = config_of("pretrained.model=atst_frame", f"pretrained.checkpoint={path}")
        spec = detector_spec(with_embedding_size(here)).to_dict()
        spec["embedding"]["encoders"][0]["checkpoint_sha256"] = sha256_of(path)
        checkpoint = tmp_path / f"of {path.stem}.ckpt"
        state = SEDTask4(with_embedding_size(here)).state_dict()
        torch.save({"state_dict": state, "hyper_parameters": {}, SPEC_KEY: spec}, checkpoint)
        networks.append((lost, checkpoint))
    found = system_costs(networks, [other, files["atst_frame"]], CLIP_S)
    assert [one.checkpoint_sha256 for one in found] == [
        sha256_of(files["atst_frame"]),
        sha256_of(other),
    ]
    with pytest.raises(InputError, match=r"other.pt: holds ATST-Frame .* no averaged checkpoint"):
        system_costs([networks[0]] * 2, [other, files["atst_frame"]], CLIP_S)
    with pytest.raises(InputError, match=r"not here: does not tell its ATST-Frame weights"):
        system_costs([networks[0], (lost, None)], [other, files["atst_frame"]], CLIP_S)


def test_the_same_weights_under_two_names_count_once(files, tmp_path):
    copy = tmp_path / "copy.pt"
    copy.write_bytes(files["atst_frame"].read_bytes())
    networks = [
        (config_of("pretrained.model=atst_frame", f"pretrained.checkpoint={path}"), None)
        for path in (copy, files["atst_frame"])
    ]
    (found,) = system_costs(networks, (), CLIP_S)
    assert found.pretraining == "AudioSet, labels of clips"


def test_each_averaged_network_takes_its_own_of_the_given_files(files, tmp_path):
    moved = write_tiny_atst(tmp_path / "möved.pt")
    lost = "pretrained.checkpoint=weg.pt"
    networks = [
        (config_of("pretrained.model=atst_frame", lost), tmp_path / "a.ckpt"),
        (config_of("pretrained.model=beats", lost), tmp_path / "b.ckpt"),
        (config_of("net.use_embeddings=false"), tmp_path / "c.ckpt"),
    ]
    found = system_costs(networks, (files["beats"], moved), CLIP_S)
    assert [one.name for one in found] == ["ATST-Frame", "BEATs"]
    assert len(system_costs([networks[1], networks[1]], [files["beats"]], CLIP_S)) == 1
    # Those that hold their encoder, or take no embeddings, take no file.
    held = config_of("pretrained.model=atst_frame", "pretrained.e2e=true")
    with pytest.raises(InputError, match=r"möved.pt: holds ATST-Frame .* of which no averaged"):
        system_costs([(held, tmp_path / "d.ckpt"), networks[1]], [files["beats"], moved], CLIP_S)
