"""Encoders inside the step: the scores of stored embeddings, who is trained, what follows whom."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from desed_task.encoders.concatenated import align_tokens
from desed_task.errors import InputError
from local.config import check_config
from local.sed_trainer_pretrained import SEDTask4
from local.training.finetuning.encoders import load_step_encoder
from tests.local.training.finetuning.small import N_FRAMES, config_of, make_batch, module_of

BOTH = ("atst_frame", "beats")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights é")


def in_training(module: SEDTask4) -> SEDTask4:
    rates = SimpleNamespace(ramp=0.5, step_num=3, get_last_lr=lambda: [1.0])
    module.lr_schedulers = lambda: rates
    module.log = module.log_dict = lambda *_, **__: None
    module.trainer = SimpleNamespace(current_epoch=0, global_rank=0)
    return module


def as_stored(module: SEDTask4, names, folder: Path, embeddings: torch.Tensor) -> SEDTask4:
    """The same networks with embeddings that were extracted beforehand."""
    tree = config_of(folder, *names).dump()
    tree["pretrained"].update(e2e=False, freezed=True)
    tree["net"]["embedding_size"] = embeddings.shape[1]
    other = SEDTask4(check_config(tree, "the test"))
    for name, network in module.networks.items():
        other.networks[name].load_state_dict(network.state_dict())
    return other


def stored_embeddings(config, waveform: torch.Tensor, names) -> torch.Tensor:
    """As extraction computes them, and joins them on the frames of the network."""
    parts = load_step_encoder(config).parts
    assert [part.name for part in parts] == list(names)
    with torch.inference_mode():
        found = [part.embed(waveform).frame for part in parts]
    if len(found) > 1:
        found = [align_tokens(one, N_FRAMES, "pool1d") for one in found]
    return torch.cat(found, 1)


@pytest.mark.parametrize("names", [("atst_frame",), ("beats",), BOTH])
def test_frozen_encoders_give_the_scores_of_stored_embeddings(names, folder):
    config = config_of(folder, *names, freezed=True)
    module = module_of(config)
    with torch.no_grad():
        for value in module.sed_teacher.parameters():
            value.add_(0.1 * torch.randn_like(value))
    batch = make_batch(3)
    embedding = stored_embeddings(config, batch.waveform, names)
    stored = as_stored(module, names, folder, embedding)
    seen: dict[str, list] = {}
    for one in (module, stored):
        one.eval()
        kept = seen[one is stored] = []
        one.score_accumulator = SimpleNamespace(add=lambda *found, kept=kept: kept.append(found))
        one.test_step(batch._replace(embedding=embedding) if one is stored else batch, 0)
    for (role, _, found), (expected_role, _, expected) in zip(*seen.values(), strict=True):
        assert role == expected_role
        found, expected = (type(one)(*(x.detach() for x in one)) for one in (found, expected))
        assert float((found.strong - expected.strong).abs().max()) <= 1e-5
        assert float((found.weak - expected.weak).abs().max()) <= 1e-5
    # And so does a step of training, with the same draws, without mixup.
    losses = []
    for one in (module, stored):
        in_training(one.train()).mixup = None
        one.draws.manual_seed(5)
        torch.manual_seed(5)
        inputs = batch._replace(embedding=embedding) if one is stored else batch
        losses.append(float(one.training_step(inputs, 0).detach()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def counted(module: SEDTask4) -> list[str]:
    """Names of the encoders that run, as they run."""
    ran: list[str] = []
    for role, encoder in module.step_encoders.of_role.items():
        encoder.layers[0].register_forward_hook(lambda *_, role=role: ran.append(role))
    return ran


def test_frozen_encoders_run_once_unless_weights_or_inputs_differ(folder):
    module = in_training(module_of(config_of(folder, "atst_frame", freezed=True)))
    ran, batch = counted(module), make_batch(1)
    module.training_step(batch, 0).backward()
    assert ran == ["student"]
    assert not any(one.training for one in module.step_encoders.of_role.values())
    assert all(p.grad is None for p in module.encoder_student.parameters())
    assert module.sed_student.training and module.sed_teacher.training
    inputs = module._inputs(batch)
    others = {"student": inputs.encoder_inputs, "teacher": (inputs.encoder_inputs[0].clone(),)}
    ran.clear()
    module.step_encoders.of_both(others)
    assert ran == ["student", "teacher"]
    state = {n: v + 0.01 for n, v in module.encoder_teacher.state_dict().items()}
    module.encoder_teacher.load_state_dict(state)
    ran.clear()
    module.training_step(batch, 0)
    assert ran == ["student", "teacher"]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("names", [("atst_frame",), BOTH])
def test_the_student_s_encoder_alone_is_trained(names, checkpointing, folder):
    config = config_of(folder, *names, gradient_checkpointing=checkpointing)
    module = in_training(module_of(config))
    assert all(one.training for one in module.step_encoders.of_role.values())
    torch.manual_seed(1)
    module.training_step(make_batch(1), 0).backward()
    for name, value in module.encoder_student.named_parameters():
        assert value.grad is not None and torch.isfinite(value.grad).all(), name
        assert value.grad.abs().sum() > 0 or name.endswith(("k.bias", "grep_a")), name
    assert all(value.grad is None for value in module.encoder_teacher.parameters())
    assert all(value.grad is None for value in module.sed_teacher.parameters())


def test_blocks_that_are_computed_twice_give_the_same_gradients(folder):
    found = []
    for checkpointing in (False, True):
        config = config_of(folder, *BOTH, gradient_checkpointing=checkpointing)
        module = in_training(module_of(config))
        module.draws.manual_seed(2)
        torch.manual_seed(2)
        module.training_step(make_batch(1), 0).backward()
        found.append([p.grad for p in module.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1])
    assert all(map(torch.equal, *found))


def test_every_encoder_is_trained_whole(folder):
    """DDP would wait for a parameter without gradient."""
    for name in ("fpasst", "asit", "m2d"):
        module = in_training(module_of(config_of(folder, name)))
        module.training_step(make_batch(1, n_rows=3), 0).backward()
        without = [n for n, p in module.encoder_student.named_parameters() if p.grad is None]
        assert without == [], name


def test_the_teacher_is_the_average_of_everything(folder):
    config = config_of(folder, "atst_frame", sections={"training": {"ema_factor": 0.6}})
    module = in_training(module_of(config))
    before = {n: v.clone() for n, v in module.named_parameters() if "teacher" in n}
    with torch.no_grad():
        for value in (*module.sed_student.parameters(), *module.encoder_student.parameters()):
            value.add_(1.0)
    module.on_before_zero_grad(None)
    for name, value in module.named_parameters():
        if "teacher" in name:  # step 3: min(1 - 1 / 4, 0.6)
            assert torch.allclose(value, before[name] + 0.4, atol=1e-6), name


def test_mixup_mixes_what_encoders_are_given_as_it_mixes_embeddings(folder):
    """Both by one draw, or, as published, encoders' inputs by a second one."""
    for draw in ("joint", "independent"):
        config = config_of(folder, *BOTH, sections={"training": {"mixup_draw": draw}})
        module = in_training(module_of(config))
        batch = make_batch(1)
        inputs = module._inputs(batch)
        module.draws.manual_seed(4)
        mixed = module._augmented(inputs, batch.source).student
        for given, found in zip(inputs.encoder_inputs, mixed.encoder_inputs, strict=True):
            module.draws.manual_seed(4)
            again = module.mixup(inputs.mel, given, inputs.target, batch.source, module.draws)
            for one, other in zip((mixed.mel, found, mixed.target), again, strict=True):
                assert torch.equal(one, other)
            assert not torch.equal(given, found)


def test_half_precision_leaves_front_ends_and_losses_in_float32(folder):
    module = in_training(module_of(config_of(folder, *BOTH)))
    batch = make_batch(1)
    exact = module._inputs(batch)
    with torch.autocast("cpu", torch.bfloat16):
        inputs = module._inputs(batch)
        losses = module.losses_of(batch)
        embedding = module.step_encoders.embedding("student", inputs.encoder_inputs)
    for one, other in zip(exact.encoder_inputs, inputs.encoder_inputs, strict=True):
        assert torch.equal(one, other) and other.dtype == torch.float32
    assert losses.loss.dtype == torch.float32
    assert embedding.requires_grad and not any(x.requires_grad for x in inputs.encoder_inputs)
    assert torch.isfinite(losses.loss)


def test_a_module_is_given_the_encoder_that_its_configuration_asks_for(folder):
    config = config_of(folder, "atst_frame")
    with pytest.raises(InputError, match=r"pretrained\.e2e: true, but no encoder was given"):
        SEDTask4(config)
    encoder = load_step_encoder(config)
    tree = config.dump()
    tree["pretrained"].update(e2e=False, freezed=True)
    with pytest.raises(InputError, match=r"atst_frame was given, but encoders do not run inside"):
        SEDTask4(check_config(tree, "the test"), encoder)
    sized = config.model_copy(update={"net": config.net.model_copy(update={"embedding_size": 9})})
    with pytest.raises(InputError, match=r"embeddings of 64 features, the network takes 9"):
        SEDTask4(sized, encoder)
    assert load_step_encoder(check_config(tree, "the test")) is None


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("net", {"use_embeddings": False}, "runs encoders inside the step, but net.use_embeddings"),
        ("pretrained", {"freezed": True, "gradient_checkpointing": True}, "set pretrained.freezed"),
        ("pretrained", {"e2e": False}, "must run inside the training step"),
    ],
)
def test_values_that_contradict_each_other_are_refused(section, values, message, folder):
    tree = config_of(folder, "atst_frame").dump()
    tree[section].update(values)
    with pytest.raises(InputError, match=message):
        check_config(tree, "the test")
