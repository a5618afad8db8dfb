"""Trainings whose encoders are fine-tuned: probe, accumulation, rates, precision, two processes."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import soundfile
import torch
from torch import nn

from desed_task.audio.files import read_window
from desed_task.audio.windows import LongClips
from desed_task.distributed import collectives
from desed_task.errors import InputError
from desed_task.schedules import lr_scale
from local.extraction.embedder import Embedder, FileWindow
from local.training.finetuning import memory, probe
from local.training.finetuning.encoders import load_step_encoder
from local.training.finetuning.memory import StepCostReport, explaining_memory, step_cost
from local.training.finetuning.optimizer import check_warm_up
from local.training.finetuning.probe import ProbedStep, probe_step
from tests.local.training.finetuning.gradients import gradients_of, gradients_of_two
from tests.local.training.finetuning.small import Batches, config_of, make_batch, module_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


def fit(config, *callbacks, **trainer):
    pl.seed_everything(1, verbose=False)
    module = module_of(config)
    made = pl.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 1, "gradient_clip_val": 5.0, **trainer},
    )
    made.fit(module, Batches())
    return module, made


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_probe_changes_nothing_of_a_training(checkpointing, folder, capsys, monkeypatch):
    config = config_of(folder, "beats", gradient_checkpointing=checkpointing)
    plain, _ = fit(config)
    drawn = torch.rand(3)
    monkeypatch.setattr(memory, "_free_on", lambda _: 10**12)
    probed, _ = fit(config, StepCostReport(config))
    assert torch.equal(torch.rand(3), drawn)
    for (name, one), other in zip(
        plain.state_dict().items(), probed.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert line.startswith("optimizer step: about ") and "activations of 7 rows" in line
    assert line.endswith("free beside the weights: 1000.0 GB")


def test_what_is_kept_is_counted_once_and_without_weights():
    """Two rows of four float32 numbers: the input of a linear map, and the output of a sigmoid."""
    network = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid())
    batch = SimpleNamespace(waveform=torch.randn(2, 4), clip_id=("a", "b"))
    losses_of = lambda one: SimpleNamespace(loss=network(one.waveform).sum())  # noqa: E731
    found = probe_step(network, losses_of, batch, torch.Generator(), None, torch.enable_grad)
    assert found.n_rows == 2 and found.kept == found.kept_checkpointing == 64
    assert all(value.grad is None for value in network.parameters())


@pytest.mark.parametrize(("long_s", "n_runs"), [(20.0, 2), (0.0, 1)])
def test_a_probe_waits_for_no_other_process(long_s, n_runs, monkeypatch):
    """One that runs out of memory would keep the others waiting for ever. A long run is not
    repeated."""
    network, worlds = nn.Linear(4, 4), []

    def losses_of(batch):
        worlds.append(collectives.n_processes())
        return SimpleNamespace(loss=network(batch.waveform).sum())

    monkeypatch.setattr(collectives.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(collectives.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(probe, "_LONG_S", long_s)
    batch = SimpleNamespace(waveform=torch.randn(2, 4), clip_id=("a", "b"))
    found = probe_step(network, losses_of, batch, torch.Generator(), None, torch.enable_grad)
    assert worlds == [1] * n_runs and collectives.n_processes() == 2
    assert found.was_first == (n_runs == 1)


def reported(config, monkeypatch, most_rows, restored=None):
    """Rows of the probes of a report that fits `most_rows` into memory, and whether it fitted."""
    rows, module = [], module_of(config)

    def probed(module, losses_of, batch, *more):
        rows.append(len(batch.clip_id))
        if rows[-1] > most_rows:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return ProbedStep(rows[-1], rows[-1] * 10**9, 10**8, 1.0, was_first=True)

    monkeypatch.setattr(memory, "probe_step", probed)
    monkeypatch.setattr(memory, "ROWS", 8)
    trainer = SimpleNamespace(
        is_global_zero=True,
        precision_plugin=SimpleNamespace(forward_context=None),
        optimizers=[SimpleNamespace(state={0: restored or {}})],
    )
    StepCostReport(config).on_train_start(trainer, module)
    return rows


def test_a_probe_runs_no_more_rows_than_a_batch_and_fewer_where_memory_is_short(
    folder, monkeypatch, capsys
):
    config = config_of(folder, "atst_frame")
    monkeypatch.setattr(memory, "_free_on", lambda _: 10**12)
    assert reported(config, monkeypatch, 8) == [7]
    assert reported(config, monkeypatch, 1) == [7, 3, 1]
    assert "activations of 7 rows 7.00) and 7 s on cpu, estimated from the first run of a few" in (
        capsys.readouterr().out
    )


def test_a_probe_without_memory_for_a_row_ends_no_training(folder, monkeypatch, capsys):
    config = config_of(folder, "atst_frame", gradient_checkpointing=True)
    told = r"time of a step are not known, as a single row is too much for cpu; .* smaller"
    with pytest.warns(UserWarning, match=told):
        assert reported(config, monkeypatch, 0) == [7, 3, 1]
    assert "optimizer step" not in capsys.readouterr().out


def test_moments_of_a_resumed_training_count_once(folder, monkeypatch, capsys):
    """They are there before the first step, so that they are not free any more."""
    config = config_of(folder, "atst_frame")
    trained = sum(p.nbytes for p in module_of(config).parameters() if p.requires_grad)
    state = {"exp_avg": torch.zeros(trained // 2), "step": 1}
    needed = 7 * 10**9 + trained
    for free, is_told in ((needed, False), (needed - 1, True)):
        monkeypatch.setattr(memory, "_free_on", lambda _, free=free: free)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            reported(config, monkeypatch, 8, state)
        assert bool(found) == is_told
    assert " GB beside the weights and moments, and " in str(found[0].message)
    assert "; free beside the weights and moments: 7.0 GB" in capsys.readouterr().out


def test_less_is_kept_where_blocks_are_computed_twice(folder):
    """What the estimate says before agrees with what is kept beside the inputs of the blocks."""
    config = config_of(folder, "atst_frame")
    module = module_of(config)
    rates = SimpleNamespace(ramp=0.5, step_num=3)
    module.lr_schedulers, module.log = lambda: rates, None
    module.trainer = SimpleNamespace(current_epoch=0, global_rank=0)
    more = module.losses_of, make_batch(1), module.draws, module.encoder_student
    found = probe_step(module, *more, torch.enable_grad)
    kept = 0
    for part in module.encoder_student.parts:
        part.gradient_checkpointing = True

    def count(value):
        nonlocal kept
        kept += value.nbytes
        return value

    with torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
        module.losses_of(make_batch(1))
    assert 0.3 * found.kept < found.kept_checkpointing < found.kept
    assert kept < 2 * found.kept
    assert not module.encoder_teacher.gradient_checkpointing
    again = probe_step(module, *more, torch.enable_grad)
    assert (
        again.kept == again.kept_checkpointing == pytest.approx(found.kept_checkpointing, rel=0.1)
    )
    cost = step_cost(ProbedStep(2, 1000, 400, 3.0), config, module)
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert (cost.n_rows, cost.kept, cost.kept_checkpointing) == (7, 3500, 1400)
    assert cost.gradients == 4 * trained and cost.moments == 8 * trained
    assert cost.seconds == pytest.approx(10.5)


def test_a_step_that_does_not_fit_says_what_to_change(folder, monkeypatch):
    config = config_of(folder, "atst_frame", sections={"training": {"accumulate_batches": 3}})
    monkeypatch.setattr(memory, "_free_on", lambda _: 1000)
    with pytest.warns(UserWarning, match=r"needs about .* GB beside the weights") as told:
        fit(config, StepCostReport(config), accumulate_grad_batches=3)
    (text,) = (str(one.message) for one in told if "beside the weights" in str(one.message))
    for remedy in (
        "pretrained.gradient_checkpointing: true (activations of about",
        "half the rows, 6 batches",
        "training.precision: bf16",
        "pretrained.n_blocks",
    ):
        assert remedy in text
    with (
        pytest.raises(InputError, match=r"^out of memory: CUDA .*; to train in less, set pretr"),
        explaining_memory(config),
    ):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")


def test_accumulated_steps_count_once_and_each_group_has_its_rate(folder):
    rates = {"lr": 1e-3, "lr_rnn": 2e-3, "lr_encoder": 4e-4, "layer_decay": 0.5}
    shape = {"optimizer": "adamw", "weight_decay": 0.01, "warmup": "linear", "warmup_steps": 4}
    opt = {**rates, **shape, "annealing": "half_cosine"}
    training = {"n_epochs": 4}
    config = config_of(folder, "atst_frame", sections={"opt": opt, "training": training})
    module, trainer = fit(config, accumulate_grad_batches=2, max_epochs=2, precision="bf16-mixed")
    (optimizer,) = trainer.optimizers
    assert type(optimizer) is torch.optim.AdamW
    assert trainer.global_step == 2 and module.lr_schedulers().step_num == 3
    logged = {n: float(v) for n, v in trainer.callback_metrics.items() if "/lr" in n}
    names = ("lr", "lr_cnn", "lr_rnn", "lr_heads", "lr_atst_frame")
    bases = (1e-3, 1e-3, 2e-3, 1e-3, 4e-4)
    # Logged in the last batch, of step 2 of 4 of the warm-up.
    expected = {f"train/{n}": 0.5 * b for n, b in zip(names, bases, strict=True)}
    assert logged == pytest.approx(expected)
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert groups["atst_frame block 0"]["initial_lr"] == 4e-4 / 4
    assert groups["atst_frame embedding"]["weight_decay"] == 0.01
    assert lr_scale(3, warmup_steps=4, warmup="linear") == 0.75
    assert groups["rnn"]["lr"] == pytest.approx(0.75 * 2e-3)


@pytest.mark.parametrize(
    ("annealing", "n_steps", "decay", "text"),
    [
        ("half_cosine", 4, 1, "that this training has"),
        ("quarter_cosine", 8, 1, "before training.epoch_"),
        ("quarter_cosine", 4, 9, "that this training has"),
    ],
)
def test_a_warm_up_longer_than_the_training_is_refused(annealing, n_steps, decay, text, folder):
    opt = {"warmup_steps": 5, "annealing": annealing}
    sections = {"opt": opt, "training": {"epoch_decay": decay}}
    config = config_of(folder, "atst_frame", sections=sections)
    with pytest.raises(InputError, match=rf"opt.warmup_steps: 5 are more than the 4 .*{text}"):
        check_warm_up(config, lambda: [()] * (n_steps // 2))
    check_warm_up(config, lambda: [()] * 5)
    module = module_of(config)
    module.trainer = SimpleNamespace(
        estimated_stepping_batches=n_steps, max_epochs=2, precision="32-true"
    )
    with pytest.raises(
        InputError, match=rf"opt.warmup_steps: 5 are more than the 4 steps .*{text}"
    ):
        module.configure_optimizers()


def test_without_rates_of_their_own_all_parameters_are_one_group(folder):
    module, trainer = fit(config_of(folder, "atst_frame", freezed=True), max_steps=1)
    (optimizer,) = trainer.optimizers
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.Adam and "name" not in group
    assert len(group["params"]) == len(list(module.sed_student.parameters()))
    assert "train/lr_cnn" not in trainer.callback_metrics


def test_windows_of_long_clips_have_the_embeddings_that_are_extracted(folder, tmp_path):
    hop = {"predict": {"hop_s": 1.28}}
    config = config_of(folder, "beats", sections=hop, freezed=True)
    wav = tmp_path / "lange Aufnahme ü.wav"
    soundfile.write(wav, 0.1 * np.random.default_rng(0).standard_normal(85000), 16000)
    long = LongClips.among({"a": 85000 / 16000}, 2.0, config.windows)
    rows = [(long.name("a", span), FileWindow(wav, long.windows, span)) for span in long.spans["a"]]
    assert len(rows) > 2
    encoder = load_step_encoder(config)
    (extracted,) = Embedder(encoder, torch.device("cpu"), 2.0, len(rows)).stream([rows])
    module = module_of(config)
    waveform = torch.stack(
        [torch.from_numpy(read_window(wav, long.windows, one.span)) for _, one in rows]
    )
    found = module.step_encoders.embedding("teacher", module.step_encoders.front_ends(waveform))
    assert float((found - extracted.frame).abs().max()) <= 1e-5


def test_two_processes_have_the_gradients_of_one(folder, tmp_path):
    """Of seven rows, one has four. Batch norms are kept out: they see what a process has."""
    net = {"dropout": 0.0, "dropstep_recurrent": 0.0, "dropstep_scope": "clip"}
    config = config_of(
        folder, "atst_frame", "beats", sections={"net": net, "training": {"mixup": None}}
    )
    alone = gradients_of(config)
    found = gradients_of_two(config, tmp_path)
    for name, value in alone.items():
        scale = max(1e-3, float(value.abs().max()))
        for of_process in found:
            assert float((value - of_process[name]).abs().max()) <= 1e-4 * scale, name
        assert torch.equal(found[0][name], found[1][name])
