"""Loggers of a run: TensorBoard without clutter, W&B and MLflow by configuration."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from desed_task.errors import InputError
from local.checkpoints.run_claims import hold_run
from local.cli.exit_status import run_command
from local.config import load_config
from local.training.tracking import hparams, loggers
from local.training.tracking.hparams import (
    FINAL,
    Row,
    RunHyperparameters,
    changed_values,
    result_values,
    write_row_among_others,
)
from local.training.tracking.loggers import TensorBoardCurves, check_loggers, closing, run_loggers

MINI = Path(__file__).resolve().parents[4] / "confs" / "mini.yaml"
PUBLISHED = MINI.with_name("pretrained.yaml")


@pytest.fixture
def clean_environment(monkeypatch):
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI", *loggers._SILENT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))


# ---- TensorBoard


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def values_in(folder: Path) -> dict[str, object]:
    """What TensorBoard's table has for a run: all of its files are read as they are by it."""
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data as parse

    found = events_of(folder).SummaryMetadata("_hparams_/session_start_info")
    values = parse(found.plugin_data.content).hparams
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in values.items()}


def test_curves_have_neither_epoch_nor_hp_metric(tmp_path):
    logger = TensorBoardCurves(str(tmp_path), "exp", version="version_0", default_hp_metric=False)
    logger.log_hyperparams({"opt": {"lr": 1}})
    logger.log_metrics({"train/loss": 1.0, "epoch": 3}, 2)
    logger.finalize("success")
    assert events_of(tmp_path / "exp/version_0").Tags()["scalars"] == ["train/loss"]
    assert "lr: 1" in (tmp_path / "exp/version_0/hparams.yaml").read_text()


@pytest.mark.parametrize("conf", [MINI, PUBLISHED])
def test_the_table_shows_what_differs_from_the_nearest_supplied_configuration(conf):
    assert changed_values(load_config(conf)) == {"training.seed": 42}
    overrides = ["opt.lr=0.5", "training.mixup=hard", "net.median_filter=" + str([1] * 27)]
    unseen = ["data.test_folder=x", "training.num_workers=3", "logging.loggers=mlflow"]
    found = changed_values(load_config(conf, [*overrides, *unseen]))
    expected = {"training.seed": 42, "opt.lr": 0.5, "training.mixup": "hard"}
    assert found == {**expected, "net.median_filter": [1] * 27}


def test_without_supplied_configurations_all_values_are_shown(monkeypatch, tmp_path):
    monkeypatch.setattr(hparams, "SHIPPED", tmp_path)
    config = load_config(MINI)
    assert changed_values(config) == result_values(config)


def row(*overrides: str, **metrics: float) -> Row:
    config = load_config(MINI, overrides)
    return Row(result_values(config), list(changed_values(config)), metrics, 7)


def test_runs_of_a_log_folder_share_their_columns(tmp_path):
    runs = [tmp_path / f"version_{number}" for number in range(4)]
    write_row_among_others(runs[0], row("opt.lr=0.5", score=0.25))
    assert values_in(runs[0] / FINAL) == {"training.seed": 42, "opt.lr": 0.5}
    with hold_run(runs[0]):  # its own process writes its row
        write_row_among_others(runs[1], row("net.dropout=0.3"))
        assert "net.dropout" not in values_in(runs[0] / FINAL)
    write_row_among_others(runs[2], row("training.batch_size=1,1,1,1,1", score=0.5))
    shown = [values_in(run / FINAL) for run in runs[:3]]
    assert {tuple(sorted(one)) for one in shown} == {
        ("net.dropout", "opt.lr", "training.batch_size", "training.seed")
    }
    assert [one["opt.lr"] for one in shown] == [0.5, 0.002, 0.002]
    assert [one["training.batch_size"] for one in shown][1:] == [
        "[8, 5, 6, 3, 2]",
        "[1, 1, 1, 1, 1]",
    ]
    scores = [events_of(run / FINAL) for run in (runs[0], runs[2])]
    assert [one.Scalars("score")[0].value for one in scores] == [0.25, 0.5]
    assert scores[0].Tags()["scalars"] == ["score"]
    assert all(len(list((run / FINAL).glob("events*"))) == 1 for run in runs[:3])
    # A damaged row of another run, and one of another version, are left alone.
    (runs[3] / FINAL).mkdir(parents=True)
    (runs[3] / FINAL / "row.json").write_text("[1]")
    write_row_among_others(runs[2], row("opt.lr=0.25"))
    assert values_in(runs[2] / FINAL)["opt.lr"] == 0.25


def test_tensorboard_finds_no_declared_columns(tmp_path):
    """A declaration of one run would hide the columns of all others."""
    write_row_among_others(tmp_path / "version_0", row("opt.lr=0.5", score=0.25))
    tags = events_of(tmp_path / "version_0" / FINAL).PluginTagToContent("hparams")
    assert set(tags) == {"_hparams_/session_start_info", "_hparams_/session_end_info"}


# ---- W&B and MLflow


def test_a_missing_package_is_said_with_its_extra(monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    check_loggers(load_config(MINI))
    for name in ("wandb", "mlflow"):
        config = load_config(MINI, [f"logging.loggers=tensorboard,{name}"])
        with pytest.raises(
            InputError, match=rf"{name} is not installed; .* -e '\.\[{name}\]', or leave"
        ):
            check_loggers(config)
    pyproject = (MINI.parents[1] / "pyproject.toml").read_text()
    assert all(f"\n{name} = [\n" in pyproject for name in loggers.EXTRAS)


class FakeWandb:
    """In place of Lightning's logger: what it is made with."""

    def __init__(self, **arguments):
        if arguments.get("project") == "refused":
            raise ValueError("project:  https://me:S3cretpw@host/ is\nunknown")
        self.arguments, self.finished = arguments, False

    @property
    def experiment(self):
        return self

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch, clean_environment):
    monkeypatch.setattr(loggers, "WandbLogger", FakeWandb)


def wandb_of(folder: Path, arguments: str = "{}") -> FakeWandb:
    config = load_config(MINI, ["logging.loggers=[wandb]", f"logging.wandb={arguments}"])
    (logger,) = run_loggers(config, folder)
    with closing([logger]):
        assert not logger.finished
    assert logger.finished
    return logger


def test_wandb_writes_into_the_run_folder_and_sends_nothing_unasked(wandb, tmp_path):
    made = wandb_of(tmp_path / "log #1" / "version_3").arguments
    assert (made["project"], made["name"]) == ("log -1", "version_3")
    assert made["save_dir"] == str(tmp_path / "log #1" / "version_3")
    assert made["offline"] is True
    assert made["settings"]["console"] == "off" and made["settings"]["x_disable_meta"]
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"


def test_what_is_asked_for_of_wandb_is_done(wandb, tmp_path):
    asked = "{offline: false, entity: team, name: best, settings: {console: wrap}}"
    made = wandb_of(tmp_path / "version_0", asked).arguments
    assert (made["offline"], made["entity"], made["name"]) == (False, "team", "best")
    assert made["settings"]["console"] == "wrap" and made["settings"]["x_disable_meta"]
    os.environ["WANDB_MODE"] = "online"
    assert wandb_of(tmp_path / "version_1").arguments["offline"] is False


def test_a_resumed_run_is_the_same_run_of_wandb(wandb, tmp_path):
    first, other = wandb_of(tmp_path / "version_0"), wandb_of(tmp_path / "version_1")
    again = wandb_of(tmp_path / "version_0", "{tags: [again]}")
    assert first.arguments["id"] == again.arguments["id"] != other.arguments["id"]


def test_arguments_that_a_logger_refuses_are_told_without_secrets(wandb, tmp_path, capsys):
    def refused(_):
        wandb_of(tmp_path / "version_0", "{project: refused}")

    assert run_command(refused, argparse.Namespace()) == 2
    told = capsys.readouterr().err
    assert "error: logging.wandb: project: https://me:***@host/ is unknown; correct its" in told
    assert "S3cretpw" not in told


SECRETS = (
    "logging.wandb={api_key: 0123456789abcdef, entity: team, settings: {http_proxy: "
    "'http://me:S3cretpw@proxy:80'}}"
)


def test_secrets_of_loggers_reach_no_file():
    config = load_config(MINI, [SECRETS])
    assert config.dump()["logging"]["wandb"]["api_key"] == "0123456789abcdef"
    tree = config.dump_public()
    text = str(tree)
    assert "0123456789abcdef" not in text and "S3cretpw" not in text
    assert tree["logging"]["wandb"]["entity"] == "team"
    assert {**tree, "logging": None} == {**config.dump(), "logging": None}
    assert not any("logging" in key for key in result_values(config))


def test_mlflow_keeps_runs_in_a_file_of_the_log_folder(clean_environment, tmp_path, capsys):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    folder = tmp_path / "größe" / "version_0"
    folder.mkdir(parents=True)
    config = load_config(MINI, ["logging.loggers=[mlflow]"])
    names = set()
    for status in ("failed", "success"):
        (logger,) = run_loggers(config, folder)
        # A resumed run may have another value, which MLflow does not take.
        logger.log_hyperparams({**result_values(config), "training.early_stop_patience": status})
        logger.log_metrics({"val/obj_metric": 0.5}, 3)
        logger.finalize(status)
        assert logger.save_dir == str(folder)
        names.add(logger.run_id)
    assert len(names) == 1
    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("größe")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("version_0", "FINISHED")
    assert run.data.params["training.early_stop_patience"] == "failed"
    assert run.data.tags["training.early_stop_patience"] == "success"
    assert run.data.params["opt.lr"] == "0.002" and "data.test_folder" not in run.data.params
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert run.info.artifact_uri.startswith(folder.parent.as_uri())
    # Where the database has lost the run, it gets another.
    stored = (folder / "loggers.json").read_text()
    (folder / "loggers.json").write_text(stored.replace(run.info.run_id, "0" * 32))
    (logger,) = run_loggers(config, folder)
    assert logger.run_id not in {*names, "0" * 32}
    assert "begins a new run there: " in capsys.readouterr().out


def test_wandb_itself_takes_our_arguments(clean_environment, tmp_path):
    pytest.importorskip("wandb")
    folder = tmp_path / "log" / "version_0"
    folder.mkdir(parents=True)
    for _ in range(2):
        (logger,) = run_loggers(load_config(MINI, ["logging.loggers=[wandb]"]), folder)
        with closing([logger]):
            logger.log_metrics({"val/obj_metric": 0.5}, 3)
            assert logger.experiment.name == "version_0"
    written = list(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len({path.name for path in written}) == 1
    assert not any(b"test_loggers" in path.read_bytes() for path in written)


# ---- the callback


def test_other_loggers_get_all_values_that_results_depend_on():
    given = []

    class Other:
        def log_hyperparams(self, values):
            given.append(values)

    trainer = type("T", (), {"loggers": [Other()]})()
    config = load_config(MINI, ["training.seed=7"])
    RunHyperparameters(config).setup(trainer, None, "fit")
    assert given == [result_values(config)]
    assert given[0]["training.seed"] == 7 and given[0]["initial_weights"] == "random"
