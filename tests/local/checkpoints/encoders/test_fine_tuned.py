"""Checkpoints that hold their encoders: configuration, new trainings from them, their summary."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.safe_load import load_safely
from desed_task.encoders.random_weights import write_random_encoder
from desed_task.errors import InputError
from local.checkpoints.encoders.fine_tuned import encoder_in_checkpoint
from local.checkpoints.encoders.initial import initial_encoder
from local.checkpoints.encoders.stored_embeddings import warn_of_other_embeddings
from local.checkpoints.info import format_checkpoint_info
from local.checkpoints.initial_weights import load_initial_weights, with_initial_weights
from local.checkpoints.restore import config_of_checkpoint, detector_spec, load_networks
from local.config import RecipeConfig, load_config
from local.sed_trainer_pretrained import SEDTask4
from local.submission.encoders import encoder_costs, plain_costs
from tests.desed_task.checkpoints.example_checkpoints import saved
from tests.desed_task.checkpoints.fine_tuned_checkpoints import tuned_encoders
from tests.desed_task.checkpoints.stage_files import stage_file

MINI = Path(__file__).resolve().parents[4] / "confs" / "mini.yaml"
SMALL = ["net.nb_filters=[4, 4, 4, 8]", "net.n_RNN_cell=8", "net.embedding_size=64"]
SECOND = ["pretrained.e2e=true", "pretrained.freezed=false"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("Gewichte ä") / "ATST-F_strong_1.pt"
    write_random_encoder(path, "atst_frame", seed=3, width=64)
    return path


@pytest.fixture(scope="module")
def of_stage(file):
    """The configuration of a stage on this encoder: the first is on stored embeddings."""

    def config(second: bool, *overrides: str) -> RecipeConfig:
        named = ["pretrained.model=atst_frame", f"pretrained.checkpoint={file}"]
        return load_config(MINI, [*SMALL, *named, *(SECOND if second else []), *overrides])

    return config


def trained(config: RecipeConfig, file: Path, path: Path, seed: int = 5) -> Path:
    """A checkpoint of a training: all is different in student and teacher."""
    torch.manual_seed(seed)
    module = SEDTask4(
        config, tuned_encoders([file])["student"][0] if config.pretrained.e2e else None
    )
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if "_teacher." in name and value.is_floating_point():
                value += 0.001
    spec = detector_spec(config, encoder=module.encoder_student)
    content = {"state_dict": module.state_dict(), "hyper_parameters": config.dump()}
    torch.save({**content, "detector": spec.to_dict(), "training_revision": 2}, path)
    return path


@pytest.fixture(scope="module")
def stages(of_stage, file, tmp_path_factory):
    """Checkpoints of both stages."""
    folder = tmp_path_factory.mktemp("Läufe")
    return tuple(
        trained(of_stage(second), file, folder / f"stage {1 + second}.ckpt")
        for second in (False, True)
    )


def begun(config: RecipeConfig, path: Path, file: Path) -> SEDTask4:
    """The module of a new training from a checkpoint."""
    from desed_task.encoders.loading import load_encoder

    config = with_initial_weights(config, path)
    encoder = initial_encoder(config)
    if encoder is None and config.pretrained.e2e:
        encoder = load_encoder(file)
    module = SEDTask4(config, encoder)
    load_initial_weights(module, config)
    return module


def tensors_of(module: SEDTask4, *beginnings: str) -> dict[str, torch.Tensor]:
    return {n: v for n, v in module.state_dict().items() if n.startswith(beginnings)}


def test_the_second_stage_starts_from_the_first_with_the_configured_encoder(
    stages, of_stage, file, capsys
):
    module = begun(of_stage(True), stages[0], file)
    stored = load_safely(stages[0])["state_dict"]
    for name, value in tensors_of(module, "sed_").items():
        assert torch.equal(value, stored[name]), name
    weights = torch.load(file, weights_only=True)
    for role in ("student", "teacher"):
        found = module.get_parameter(f"encoder_{role}.blocks.1.attn.qkv.weight")
        assert torch.equal(found, weights["model.atst.blocks.1.attn.qkv.weight"])
    told = f"encoder: that of {file} for student and teacher, as {stages[0]} holds none\n"
    assert told in capsys.readouterr().out


def test_the_second_stage_starts_from_a_second_with_its_encoders(
    stages, of_stage, tmp_path, capsys
):
    """No file of the encoder is needed."""
    config = of_stage(True, f"pretrained.checkpoint={tmp_path / 'absent.pt'}")
    module = begun(config, stages[1], tmp_path / "absent.pt")
    stored = load_safely(stages[1])["state_dict"]
    found = tensors_of(module, "sed_", "encoder_")
    assert len(found) > 80
    for name, value in found.items():
        assert torch.equal(value, stored[name]), name
    names = (f"encoder_{role}.norm_frame.bias" for role in ("student", "teacher"))
    assert not torch.equal(*(found[name] for name in names))
    told = f"encoder: that of {stages[1]}, student from student, teacher from teacher"
    assert told in capsys.readouterr().out


def test_a_first_stage_leaves_the_encoders_of_a_second_out(stages, of_stage, file, capsys, recwarn):
    module = begun(of_stage(False), stages[1], file)
    assert module.encoder_student is None and not tensors_of(module, "encoder_")
    stored = load_safely(stages[1])["state_dict"]
    assert torch.equal(module.sed_teacher.dense.weight, stored["sed_teacher.dense.weight"])
    told = (
        f"encoder: that of {stages[1]}, with which the network was trained, is left out, as stored"
    )
    assert told in capsys.readouterr().out
    warn_of_other_embeddings(load_safely(stages[1]), [None], "a")
    assert not [one for one in recwarn.list if "embeddings" in str(one.message)]


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize(
    ("override", "here"),
    [
        ("pretrained.model=fpasst", "fPaSST"),
        ("pretrained.n_blocks=1", "ATST-Frame (1 block)"),
        ("pretrained.model=[atst_frame, m2d]", "ATST-Frame and M2D"),
    ],
)
def test_other_encoders_are_refused(stages, of_stage, stage, override, here):
    sets = [override, "pretrained.checkpoint=null"]
    with pytest.raises(InputError) as error:
        with_initial_weights(of_stage(True, *sets), stages[stage])
    text = f"{stages[stage]}: its network was trained with ATST-Frame, here it would get tokens of "
    assert str(error.value).startswith(text + here + "; give pretrained.model")


def test_an_encoder_of_another_size_is_refused_by_its_tensors(stages, of_stage, tmp_path):
    """The same encoder, with another number of blocks in its file."""
    wide = tmp_path / "wide.pt"
    write_random_encoder(wide, "atst_frame", seed=3, width=64, n_blocks=3)
    config = with_initial_weights(of_stage(True), stages[1])
    module = SEDTask4(config, tuned_encoders([wide])["student"][0])
    with pytest.raises(InputError, match="does not hold the encoders that the configuration") as no:
        load_initial_weights(module, config)
    text = "encoder_teacher.blocks.2.mlp.fc2.bias: missing in the checkpoint (see pretrained.model"
    assert text in str(no.value)


def test_other_weights_of_the_first_stage_are_warned_of(of_stage, file, tmp_path):
    config, other = of_stage(False), tmp_path / "other.pt"
    write_random_encoder(other, "atst_frame", seed=8, width=64)
    module = SEDTask4(config)
    spec = detector_spec(config).with_embedding("ab" * 32).to_dict()
    content = {"state_dict": module.state_dict(), "hyper_parameters": config.dump()}
    torch.save({**content, "detector": spec}, tmp_path / "a.ckpt")
    with pytest.warns(UserWarning, match=r"a.ckpt was trained on embeddings of other ATST-Frame"):
        begun(of_stage(True), tmp_path / "a.ckpt", other)


def test_a_test_computes_with_the_encoders_of_the_checkpoint(stages, of_stage, tmp_path, capsys):
    """Whatever the configuration says of encoders, and without their files."""
    checkpoint = load_safely(stages[1])
    for here in (load_config(MINI, SMALL), of_stage(False), of_stage(True)):
        config = config_of_checkpoint(checkpoint, here, [], str(stages[1]))
        assert config.pretrained.names == ("atst_frame",)
        assert config.pretrained.e2e and not config.pretrained.freezed
        assert not config.reads_embeddings
    encoder = encoder_in_checkpoint(config, checkpoint, "a")
    module = SEDTask4(config, encoder)
    load_networks(module, checkpoint["state_dict"], "a")
    for name, value in module.state_dict().items():
        assert torch.equal(value, checkpoint["state_dict"][name]), name
    for key in ("model=beats", "checkpoint=a.pt", "beats_checkpoint=a.pt", "e2e=false"):
        with pytest.raises(
            InputError, match=rf"holds its own ATST-Frame.* --set pretrained.{key[:3]}"
        ):
            config_of_checkpoint(checkpoint, here, [f"pretrained.{key}"], "a.ckpt")
    config = config_of_checkpoint(load_safely(stages[0]), of_stage(True), [], str(stages[0]))
    assert config.reads_embeddings and config.pretrained.freezed
    assert encoder_in_checkpoint(config, {}, "a") is None


def test_the_summary_says_that_the_encoder_is_in_it(stages, file):
    lines = " ".join(format_checkpoint_info(stages[1]).split())
    assert f"trained from weights with SHA-256 {sha256_of(file)}" in lines
    assert (
        "encoder in the checkpoint, that of the student with 0.10 M parameters (as many in" in lines
    )
    assert "all fit and finite" in lines
    assert "in the checkpoint, that of" not in format_checkpoint_info(stages[0])


def test_a_summary_names_what_is_wrong_with_the_encoder(stages, tmp_path):
    content = torch.load(stages[1], weights_only=True)
    content["state_dict"]["encoder_teacher.blocks.0.norm1.bias"][:2] = float("inf")
    torch.save(content, tmp_path / "a.ckpt")
    text = " ".join(format_checkpoint_info(tmp_path / "a.ckpt").split())
    told = (
        "below 'encoder_teacher.': not a complete ATST-Frame: - encoder_teacher.blocks.0.norm1.bias"
    )
    assert text.endswith(f" tensors {told} is not finite")


def test_a_submission_counts_the_encoder_of_the_checkpoint(stages, of_stage, file, tmp_path):
    config = of_stage(True)
    (one,) = encoder_costs(config, (), 3.3, stages[1], "teacher")
    (frozen,) = encoder_costs(of_stage(False), (), 3.3, stages[0])
    assert (one.name, one.parameters, one.macs) == (frozen.name, frozen.parameters, frozen.macs)
    assert (one.checkpoint_sha256, one.fine_tuned_from) == (sha256_of(stages[1]), sha256_of(file))
    assert one.pretraining == frozen.pretraining is not None
    plain = plain_costs([one, frozen])
    assert plain[0]["fine_tuned_from"] == sha256_of(file) and "fine_tuned_from" not in plain[1]
    # A file of that name with other weights says nothing, one that is not here is believed.
    other = tmp_path / file.name
    write_random_encoder(other, "atst_frame", seed=8, width=64)
    elsewhere = of_stage(True, f"pretrained.checkpoint={other}")
    assert encoder_costs(elsewhere, (), 3.3, stages[1])[0].pretraining is None
    other.unlink()
    assert encoder_costs(elsewhere, (), 3.3, stages[1])[0].pretraining == frozen.pretraining
    with pytest.raises(InputError, match=r"holds its own encoder, so --encoder names none"):
        encoder_costs(config, (file,), 3.3, stages[1])
    with pytest.raises(InputError, match=r"absent.ckpt: no such checkpoint"):
        encoder_costs(config, (), 3.3, tmp_path / "absent.ckpt")


@pytest.mark.filterwarnings("ignore")
def test_a_published_stage_file_is_tested_and_starts_a_training(tmp_path):
    content, _ = stage_file("atst_frame", tmp_path)
    path = saved(content, tmp_path / "stufe zwei.ckpt")
    sets = ["net.nb_filters=[2, 2, 2, 2, 2, 2, 3]", "net.n_RNN_cell=4", "net.activation=cg"]
    model = ["pretrained.model=atst_frame", "net.embedding_size=64"]
    config = load_config(MINI.with_name("pretrained.yaml"), [*sets, *model, *SECOND])
    module = begun(config, path, tmp_path / "absent.pt")
    stored = load_safely(path)["state_dict"]
    for name, value in tensors_of(module, "sed_", "encoder_").items():
        assert torch.equal(value, stored[name]), name
    here = load_config(MINI.with_name("pretrained.yaml"))
    found = config_of_checkpoint(load_safely(path), here, [], str(path))
    assert (found.pretrained.names, found.pretrained.e2e) == (("atst_frame",), True)
    assert (found.net.activation, found.net.embedding_size) == ("cg", 64)
    assert "kind             stage file of another published code" in format_checkpoint_info(path)
