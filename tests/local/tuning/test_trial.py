"""Trials that are trained: what they are worth, what breaks them, and that every value counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from desed_task.checkpoints.safe_load import load_safely
from desed_task.errors import InputError
from local import run
from local.checkpoints.restore import load_networks
from local.config import RecipeConfig, check_config, load_config
from local.data.datamodule import SedDataModule
from local.data.digests import overall_digest
from local.sed_trainer_pretrained import SEDTask4
from local.tuning.search_space import Dimension, Space, replace_values
from local.tuning.trial import LossError, TrialWatch, objective_value, train
from local.tuning.workers.messages import DATA_FACT, PrunedError, RefusedError, TrialJob
from local.tuning.workers.objective_metrics import objective_metrics
from local.tuning.workers.process import failure_reason
from tests.published_task import TASK

pytestmark = pytest.mark.usefixtures("undrawn")

OBJECTIVE_METRICS = tuple(objective_metrics(TASK, "val").values())
ROOT = Path(__file__).resolve().parents[3]
QUIET = {"energy.enabled": False}


@pytest.fixture
def make_job(extracted, tmp_path):
    def make(objective="held_out", **changes) -> TrialJob:
        overrides = {"net.dropout": 0.3, "opt.lr": 1e-3}
        given = {key.replace("__", "."): value for key, value in changes.items()}
        tree = replace_values({**QUIET, **overrides, **given}, load_config(extracted).dump())
        return TrialJob(0, 0, overrides, tree, str(tmp_path / "tuning"), objective)

    return make


def go_on(epoch: int, value: float) -> bool:
    return True


def test_a_trial_is_worth_its_best_validation_and_leaves_dev_test_alone(make_job):
    job, told = make_job(), []
    outcome = train(job, lambda epoch, value: told.append((epoch, value)) or True)
    names = [f"val/{part}" for part in OBJECTIVE_METRICS]
    assert outcome.value == sum(outcome.facts[name] for name in names)
    assert [epoch for epoch, _ in told] == [0, 1]
    assert not (job.folder / "results.json").exists()
    assert not (job.folder / "metrics_test").exists()
    # The checkpoint that is kept is the one that has this worth.
    (best,) = (job.folder / "checkpoints").glob("epoch=*.ckpt")
    config = check_config(job.tree, "")
    data, module = SedDataModule(config), SEDTask4(config)
    data.check("fit")
    load_networks(module, load_safely(best)["state_dict"], str(best))
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    (metrics,) = trainer.validate(module, datamodule=data, verbose=False)
    found = {name: outcome.facts[name] for name in names}
    assert found == {name: pytest.approx(metrics[name]) for name in names}
    assert outcome.facts[DATA_FACT] == overall_digest(data.digests("fit"))
    assert metrics["val/obj_metric"] == pytest.approx(max(value for _, value in told))
    # TensorBoard's table has the drawn values beside the worth.
    events = EventAccumulator(str(job.folder / "final")).Reload()
    assert events.Scalars("objective")[0].value == pytest.approx(outcome.value)
    tags = events.SummaryMetadata("_hparams_/session_start_info")
    assert tags.plugin_data.plugin_name == "hparams"
    assert b"net.dropout" in tags.plugin_data.content
    assert b"audio_max_len" not in tags.plugin_data.content
    best = max(value for _, value in told)
    assert events.Scalars("val/obj_metric")[0].value == pytest.approx(best)
    assert len(list((job.folder / "final").glob("events*"))) == 1
    # Its curves have no other table, whose columns would be those of all trials.
    tags = EventAccumulator(str(job.folder)).Reload().Tags()
    assert not {"epoch", "hp_metric", "_hparams_/experiment"} & {*tags["scalars"], *tags["tensors"]}


def test_tried_again_it_goes_on_and_is_worth_the_same(make_job, tmp_path):
    def killed(epoch: int, value: float) -> bool:
        if epoch:
            raise ConnectionError
        return True

    with pytest.raises(ConnectionError):
        train(make_job(), killed)
    told = []
    again = replace(make_job(), number=3)
    gone_on = train(again, lambda epoch, value: told.append((epoch, value)) or True)
    whole = []
    fresh = replace(make_job(), log_dir=str(tmp_path / "whole"))
    assert train(fresh, lambda *told: whole.append(told) or True) == gone_on
    assert told == whole
    assert (again.folder / "run.yaml").read_text().count("stage: fit") == 2


def test_on_dev_test_it_is_the_published_sum(make_job, monkeypatch):
    """The results are those that a training's test writes, whose tests are others."""
    asked = {}

    def fit(config, options, **more) -> Path:
        asked.update(more)
        job.folder.mkdir(parents=True)
        (job.folder / "results.json").write_text(json.dumps({"metrics": metrics}))
        return job.folder

    job = make_job("test")
    metrics = {
        "test/teacher/psds1/sed_scores_eval": 0.25,
        "test/teacher/segment_mpauc/sed_scores_eval": 0.5,
        "test/student/psds1/sed_scores_eval": 0.125,
        "test/teacher/psds2/sed_scores_eval": None,
    }
    monkeypatch.setattr(run, "fit", fit)
    outcome = train(job, go_on)
    assert asked["test"] is True
    names = [f"test/{part}" for part in OBJECTIVE_METRICS]
    assert {name: outcome.facts[name] for name in names} == {name: metrics[name] for name in names}
    assert outcome.value == 0.75


def test_a_loss_that_is_no_number_ends_the_trial(make_job):
    with pytest.raises(LossError, match="NaN loss") as error:
        train(make_job(opt__lr=1e30, training__gradient_clip=0.0), go_on)
    assert failure_reason(error.value).startswith(
        "LossError: NaN loss: the network's scores are not fin"
    )


def test_a_loss_that_is_no_number_is_found_before_it_is_validated(make_job):
    watch, trainer = TrialWatch(make_job(), go_on), SimpleNamespace(current_epoch=3)
    for loss in (1.0, 2.0):
        watch.on_train_batch_end(trainer, None, {"loss": torch.tensor(loss)}, None, 0)
    watch.on_validation_start(trainer, None)
    watch.on_train_batch_end(trainer, None, {"loss": torch.tensor(float("nan"))}, None, 0)
    for hook in (watch.on_validation_start, watch.on_train_epoch_end):
        with pytest.raises(LossError, match="NaN loss in epoch 3"):
            hook(trainer, None)


def test_the_tuner_can_end_a_trial(make_job):
    with pytest.raises(PrunedError, match=r"val/obj_metric \d\.\d+ in epoch 0 is clearly worse"):
        train(make_job(), lambda epoch, value: False)


def test_wrong_data_is_refused_before_anything_is_trained(make_job, tmp_path):
    with pytest.raises(RefusedError, match=r"data\.weak_tsv"):
        train(make_job(data__weak_tsv=str(tmp_path / "none.tsv")), go_on)


def test_an_objective_that_the_data_does_not_define_is_named():
    metrics = {f"val/{OBJECTIVE_METRICS[0]}": 0.5, f"val/{OBJECTIVE_METRICS[1]}": float("nan")}
    with pytest.raises(InputError, match="val/teacher/segment_mpauc/sed_scores_eval: not defined"):
        objective_value(metrics, TASK, "held_out")


TAGS = "teacher/weak_f1_macro_thres05/torchmetrics"


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("events segments tags", [*OBJECTIVE_METRICS]),
        ("events tags", [OBJECTIVE_METRICS[0]]),
        ("segments", [OBJECTIVE_METRICS[1]]),
        ("tags", [TAGS]),
    ],
)
def test_the_objective_is_of_what_the_task_scores(kinds, expected):
    scored = tuple(part for part in TASK.validation if part.kind in kinds.split())
    task = replace(TASK, validation=scored)
    metrics = {f"val/{name}": 0.25 * n for n, name in enumerate((*OBJECTIVE_METRICS, TAGS), 1)}
    value, facts = objective_value(metrics, task, "held_out")
    assert facts == {f"val/{name}": metrics[f"val/{name}"] for name in expected}
    assert value == sum(facts.values())


def test_tags_of_a_test_have_another_name():
    tags = replace(TASK, test=(TASK.part("val", "tags"),))
    name = "test/teacher/tag_f1_macro_thres05/desed_task"
    assert objective_value({name: 0.5}, tags, "test") == (0.5, {name: 0.5})


def test_a_task_without_a_test_has_no_objective_there():
    with pytest.raises(InputError, match=r"dcase2024: tests score nothing.*events: {test: NAME}"):
        objective_value({}, replace(TASK, test=()), "test")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out of memory: MemoryError"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory: Default"),
        (torch.OutOfMemoryError("CUDA has\nno more"), "out of memory: CUDA has no more"),
        (ValueError("a\nb"), "ValueError: a b"),
        (SystemExit(), "SystemExit"),
    ],
)
def test_reasons_are_one_line(error, reason):
    assert failure_reason(error).startswith(reason)


# ---- every value of the published space reaches the network


class EnoughError(Exception):
    pass


class OneStep(Callback):
    """Keeps what one step of the optimizer made of the student and of its moments."""

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        moments = trainer.optimizers[0].state_dict()["state"]
        self.left = [
            *(value.clone() for value in pl_module.sed_student.state_dict().values()),
            *(state["exp_avg"].clone() for state in moments.values()),
        ]
        raise EnoughError


def one_step(config: RecipeConfig, data: SedDataModule) -> list[torch.Tensor]:
    """The student and the optimizer's moments after one step, with always the same draws."""
    pl.seed_everything(1, verbose=False)
    module, seen = SEDTask4(config), OneStep()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=config.training.n_epochs,
        gradient_clip_val=config.training.gradient_clip or None,
        callbacks=[seen],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with pytest.raises(EnoughError):
        trainer.fit(module, datamodule=data)
    return seen.left


SPACE = Space.load(ROOT / "confs" / "optuna.yaml", "training")


@pytest.fixture(scope="module")
def base(extracted):
    """A small configuration that takes the published space; its gradient is large."""
    changes = {
        "training.n_epochs": 200,
        "training.epoch_decay": 200,
        "training.const_max": 1e9,
        "net.dropstep_recurrent": 0.3,
        "net.dropstep_recurrent_len": 16,
        "training.mixup": None,
        **QUIET,
    }
    config = check_config(replace_values(changes, load_config(extracted).dump()), "")
    data = SedDataModule(config)
    data.check("fit")
    return config, data


@pytest.mark.parametrize("dimension", SPACE.dimensions, ids=lambda dimension: dimension.path)
def test_one_step_differs_at_each_end_of_every_range(base, dimension: Dimension):
    config, data = base
    left = [
        one_step(check_config(replace_values({dimension.path: value}, config.dump()), ""), data)
        for value in dimension.ends
    ]
    # The same values leave the same behind.
    value = dimension.ends[0]
    again = one_step(check_config(replace_values({dimension.path: value}, config.dump()), ""), data)
    assert all(torch.equal(one, two) for one, two in zip(left[0], again, strict=True))
    for i, one in enumerate(left):
        for other in left[i + 1 :]:
            same = len(one) == len(other) and all(
                a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True)
            )
            assert not same, f"{dimension.path} changes nothing"


def validated(watch: TrialWatch, *values: float) -> None:
    """Validations with these values of val/obj_metric, each with its epoch as another metric."""
    watch.started = True
    for value in values:
        epoch = len(watch._told)
        metrics = {"val/obj_metric": torch.tensor(value), "val/epoch": torch.tensor(float(epoch))}
        trainer = SimpleNamespace(
            sanity_checking=False, callback_metrics=metrics, current_epoch=epoch
        )
        watch.on_validation_end(trainer, None)


@pytest.mark.parametrize(
    ("values", "best"), [((0.25, 0.75, 0.5), 1), ((0.5, 0.5), 0), ((0.25, 0.5), 1), ((-1.0,), 0)]
)
def test_the_first_of_the_best_validations_counts_also_of_a_trial_that_goes_on(values, best):
    job = TrialJob(0, 0, {}, {}, "", "held_out")
    whole = TrialWatch(job, go_on)
    validated(whole, *values)
    assert (whole.best_value, whole.best["val/epoch"]) == (max(values), best)
    begun, told = TrialWatch(job, go_on), []
    validated(begun, *values[:-1])
    resumed = TrialWatch(job, lambda epoch, value: told.append((epoch, value)) or True)
    resumed.load_state_dict(begun.state_dict())
    validated(resumed, values[-1])
    assert (resumed.best_value, resumed.best) == (whole.best_value, whole.best)
    assert told == list(enumerate(values))
