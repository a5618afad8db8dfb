"""A checkpoint is used with the encoders that it was trained with."""

from pathlib import Path

import pytest

from desed_task.checkpoints.encoder_specs import EncoderSpec, embedding_section
from local.checkpoints.encoders.choice import choose_encoders, with_encoders_of
from local.checkpoints.restore import config_of_checkpoint, detector_spec
from local.config import load_config
from local.schema.encoders import Pretrained
from local.sed_trainer_pretrained import SEDTask4

MINI = Path(__file__).resolve().parents[4] / "confs" / "mini.yaml"
SMALL = ["net.nb_filters=[4, 4, 4, 8]", "net.n_RNN_cell=8", "net.embedding_size=128"]
ATST = ["pretrained.model=atst_frame", "pretrained.checkpoint=weights/ätst.pt"]
BOTH = ["pretrained.model=[beats, atst_frame]", "pretrained.checkpoint=[null, a.pt]"]


@pytest.fixture(scope="module")
def stored():
    """What checkpoints hold, by the encoders that they were trained with."""
    state = SEDTask4(load_config(MINI, SMALL)).state_dict()

    def content(*sets):
        config = load_config(MINI, [*SMALL, *sets])
        spec = detector_spec(config).to_dict()
        return {"state_dict": state, "hyper_parameters": config.dump(), "detector": spec}

    return content


def pretrained(checkpoint, sets=(), overrides=()):
    here = load_config(MINI, [*sets, *overrides])
    return config_of_checkpoint(checkpoint, here, list(overrides), "a.ckpt").pretrained


def test_its_own_encoder_is_used_and_named(stored, capsys):
    found = pretrained(stored(*ATST, "pretrained.n_blocks=1"))
    (one,) = found.encoders
    assert (one.name, one.file, one.n_blocks) == ("atst_frame", "weights/ätst.pt", 1)
    assert found.extracted_embeddings_dir == load_config(MINI).pretrained.extracted_embeddings_dir
    told = (
        "a.ckpt: takes embeddings of ATST-Frame (1 block), as it says itself (the configuration: "
        "BEATs)\n"
    )
    assert told in capsys.readouterr().out


def test_files_are_those_of_the_configuration_where_it_has_that_encoder(stored, capsys):
    found = pretrained(stored(*BOTH), ["pretrained.beats_checkpoint=hier.pt"])
    assert [(one.name, one.file) for one in found.encoders] == [
        ("beats", "hier.pt"),
        ("atst_frame", "a.pt"),
    ]
    assert "takes embeddings of BEATs and ATST-Frame, as" in capsys.readouterr().out
    found = pretrained(stored(*ATST), BOTH)
    assert [(one.name, one.file) for one in found.encoders] == [("atst_frame", "a.pt")]


def test_the_same_encoders_need_no_line(stored, capsys):
    found = pretrained(stored(*BOTH), ["pretrained.model=[beats, atst_frame]"])
    assert found.checkpoint is None
    assert pretrained(stored()).model == "beats"
    without = detector_spec(load_config(MINI, ["net.use_embeddings=false"]))
    assert choose_encoders(without, load_config(MINI, ATST), {}, [], "a")["model"] == "atst_frame"
    assert "takes embeddings" not in capsys.readouterr().out


def test_set_takes_precedence(stored):
    found = pretrained(stored(*BOTH), overrides=ATST)
    assert [(one.name, one.file) for one in found.encoders] == [("atst_frame", "weights/ätst.pt")]


def test_checkpoints_of_yesterday_mean_beats(stored):
    old = stored()
    size = old["detector"]["embedding"]["size"]
    old["detector"]["embedding"] = {"model": "BEATs", "size": size, "checkpoint_sha256": ""}
    old["detector"]["schema_version"] = 3
    assert pretrained(old, ATST).names == ("beats",)
    assert pretrained(old).names == ("beats",)


def test_hyper_parameters_that_say_nothing_sensible_do_no_harm(stored):
    odd = stored(*ATST)
    odd["hyper_parameters"]["pretrained"] = {"model": 3, "checkpoint": {}}
    (one,) = pretrained(odd).encoders
    assert (one.name, one.file) == ("atst_frame", "./pretrained_models/ATST-F_strong_1.pt")
    odd["detector"]["embedding"] = embedding_section(
        odd["detector"]["embedding"]["size"], [EncoderSpec("m2d", n_blocks=4)]
    )
    assert pretrained(odd).encoders[0].n_blocks == 4


@pytest.mark.parametrize("sets", [ATST, ["net.use_embeddings=false"]])
def test_encoders_inside_the_step_are_of_the_configuration_alone(stored, sets):
    """As of a first stage that is tested with the configuration of a second one."""
    second = ["pretrained.e2e=true", "pretrained.freezed=false"]
    here = load_config(MINI, [*SMALL, *ATST, *second, "pretrained.gradient_checkpointing=true"])
    file = stored(*sets)
    if sets is not ATST:
        state = file["state_dict"]
        file["state_dict"] = SEDTask4(load_config(MINI, [*SMALL, *sets])).state_dict() | {
            name: value for name, value in state.items() if not name.startswith("sed_")
        }
    found = config_of_checkpoint(file, here, [], "a.ckpt").pretrained
    assert (found.e2e, found.freezed, found.gradient_checkpointing) == (False, True, False)


def test_a_member_is_not_given_the_encoders_of_another_one():
    here = load_config(MINI, [*BOTH, "pretrained.n_blocks=[1, 2]", "pretrained.e2e=true"])
    stored = {"extracted_embeddings_dir": "dort", "e2e": False, "freezed": True}
    found = Pretrained(**with_encoders_of(here.dump()["pretrained"], stored))
    (one,) = found.encoders
    assert (one.name, one.n_blocks, one.is_baselines) == ("beats", None, True)
    assert found.extracted_embeddings_dir == "dort" and found.e2e
    stored = {"model": "m2d", "gradient_checkpointing": True}
    found = Pretrained(**with_encoders_of(here.dump()["pretrained"], stored))
    assert found.encoders[0].file == "./pretrained_models/M2D_strong_1.pt"
