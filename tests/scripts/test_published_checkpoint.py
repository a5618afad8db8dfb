"""train_pretrained.py on a checkpoint written by the published code, on the small mini corpus."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml

from desed_task.checkpoints.safe_load import load_safely
from local.checkpoints import info
from local.checkpoints.restore import config_of_checkpoint, load_networks
from local.config import RecipeConfig, load_config
from local.data.datamodule import SedDataModule
from local.sed_trainer_pretrained import SEDTask4
from local.stores.size import with_embedding_size
from tests.in_process import run_main

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("student", "teacher")


def published_tree(config: RecipeConfig, parity: Callable[[str], Path]) -> dict[str, Any]:
    """The published YAML with the sizes of `config`; it has keys that nothing reads."""
    tree: dict[str, Any] = json.loads(parity("pretrained_values.json").read_text())
    net = config.net.model_dump(mode="json", exclude={"n_layers_RNN"})
    tree["net"].update(net)
    tree["feats"].update(config.feats.model_dump(exclude={"f_min", "f_max"}))
    tree["data"]["net_subsample"] = config.data.net_subsample
    assert tree["net"]["rnn_layers"] == 1 and tree["training"]["val_thresholds"] == [0.5]
    return tree


@pytest.fixture(scope="module")
def published(
    extracted: Path, parity: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A file of the published form: two GRU layers, loud outputs, counters, numpy scalars."""
    config = load_config(extracted, ["net.n_layers_RNN=2"])
    torch.manual_seed(5)
    module = SEDTask4(config)
    for network in module.networks.values():
        torch.nn.init.normal_(network.dense.weight, std=3.0)
    state = {}
    for name, value in module.state_dict().items():
        state[name] = value
        parent = name.rpartition(".")[0]
        for counter in ("total_ops", "total_params"):
            state[f"{parent}.{counter}"] = torch.zeros(1, dtype=torch.float64)
    repeated = {
        part: {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(part)}
        for part in ("sed_student", "sed_teacher")
    }
    score = np.float64(0.2857)
    callback = {"monitor": "val/obj_metric", "best_model_score": score, "best_model_path": "b.ckpt"}
    path = tmp_path_factory.mktemp("published") / "epoch=259-step=30680.ckpt"
    content = {
        "epoch": 259,
        "global_step": 30680,
        "pytorch-lightning_version": "1.9.5",
        "state_dict": state,
        "callbacks": {"ModelCheckpoint{'monitor': 'val/obj_metric'}": callback},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": score}]}],
        "lr_schedulers": [{"step_num": 30681}],
        "hyper_parameters": published_tree(config, parity),
        **repeated,
    }
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def resaved(published: Path, extracted: Path) -> Path:
    """The same detector, read and written by our own trainer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint = load_safely(published)
        config = config_of_checkpoint(checkpoint, load_config(extracted), (), str(published))
        data, module = SedDataModule(config), SEDTask4(config)
        data.check("test")
        load_networks(module, checkpoint["state_dict"], str(published))
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_model_summary=False)
    trainer.strategy.connect(module)
    module.trainer, trainer.datamodule = trainer, data
    path = published.with_name("ours.ckpt")
    trainer.save_checkpoint(path)
    return path


def run_of(
    extracted: Path, option: str, path: Path, folder: Path
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    done = run_main(
        "train_pretrained.py",
        *("--conf_file", extracted, "--log_dir", folder, option, path),
        cwd=folder.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("version_*")
    return found, done


def test_metrics_are_the_same_as_published_and_as_ours(
    published: Path, resaved: Path, extracted: Path, tmp_path: Path
) -> None:
    option = "--test_from_checkpoint"
    theirs, done = run_of(extracted, option, published, tmp_path / "theirs")
    ours, quiet = run_of(extracted, option, resaved, tmp_path / "ours")
    one, other = (json.loads((place / "results.json").read_text()) for place in (theirs, ours))
    assert one["metrics"] == other["metrics"] and one["per_class"] == other["per_class"]
    # Not what a network says that was not loaded, or of two that are one.
    areas = {one["metrics"][f"test/{role}/segment_mauc/sed_scores_eval"] for role in ROLES}
    assert len(areas) == 2 and all(0.2 < area < 0.8 for area in areas)
    for role in ROLES:
        place = Path("metrics_test") / role / "scores_devtest.npz"
        with np.load(theirs / place) as first, np.load(ours / place) as second:
            assert np.array_equal(first["unprocessed"], second["unprocessed"])
            assert first["unprocessed"].std() > 0.1
    told = [line for line in done.stderr.splitlines() if line.startswith("warning:")]
    assert len(told) == 1 and "net.n_layers_RNN is 2, not 1" in told[0]
    assert "warning:" not in quiet.stderr
    config = yaml.safe_load((theirs / "config.yaml").read_text())
    assert config == yaml.safe_load((ours / "config.yaml").read_text())
    assert config["net"]["n_layers_RNN"] == 2
    assert config["training"]["ema_factor"] == 0.999
    assert config["data"]["test_tsv"] == load_config(extracted).data.test_tsv


def test_scores_of_an_evaluation_set_too(
    published: Path, resaved: Path, extracted: Path, tmp_path: Path
) -> None:
    option = "--eval_from_checkpoint"
    theirs, _ = run_of(extracted, option, published, tmp_path / "theirs")
    ours, _ = run_of(extracted, option, resaved, tmp_path / "ours")
    tables = sorted(path.relative_to(theirs) for path in theirs.rglob("*_scores/*/*.tsv"))
    assert len(tables) >= 4
    assert all((theirs / path).read_bytes() == (ours / path).read_bytes() for path in tables)


def test_a_published_checkpoint_is_not_gone_on_from(
    published: Path, extracted: Path, tmp_path: Path
) -> None:
    done = run_main(
        "train_pretrained.py",
        *("--conf_file", extracted, "--resume_from_checkpoint", published),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "training cannot be resumed from a checkpoint of the published code" in done.stderr


def test_other_sizes_than_its_own_name_the_tensor_and_the_key(
    published: Path, extracted: Path, tmp_path: Path
) -> None:
    done = run_main(
        "train_pretrained.py",
        *("--conf_file", extracted, "--test_from_checkpoint", published),
        *("--set", "net.n_RNN_cell=16"),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert (
        "sed_student.rnn.rnn.weight_hh_l1: shape (24, 8) in the checkpoint, (48, 16) in the "
        "network (see net.n_layers_RNN, net.n_RNN_cell)"
    ) in done.stderr


def test_what_is_inside_needs_no_configuration_and_no_lightning(
    published: Path, tmp_path: Path
) -> None:
    program = (
        "import sys, train_pretrained as t; status = t.main(sys.argv[1:]); "
        "print('Lightning' if 'pytorch_lightning' in sys.modules else 'alone'); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--checkpoint_info", str(published)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("alone\n") and done.stderr == ""
    rows = " ".join(done.stdout.split())
    for text in (
        "kind written by the published code",
        "written with pytorch-lightning 1.9.5",
        "trained to the end of epoch 259 (counted from 0), 30680 steps",
        "best score val/obj_metric 0.2857, of b.ckpt",
        "27 (those of the task dcase2024), with their median filters in frames: Alarm_bell_ringing",
        "4 blocks of 4, 4, 4, 8 filters, glu; GRU of 2 layers, 8 cells per direction",
        "embeddings of 128 features (unknown weights); aggregation pool1d",
        "16000 Hz; FFT 1024, window 1024, hop 512 samples; 64 mel bands, 0 to 8000 Hz",
        "156 of 64 ms for a clip of 10 s (2 mel frames each)",
        "minmax of each instance over mel bands and frames",
        "n_epochs 300; n_epochs_warmup 50; epoch_decay 100; batch_size [12, 6, 6, 12, 24];",
        "all fit and finite",
        "net.n_layers_RNN is 2, not 1",
    ):
        assert text in rows, text
    assert max(map(len, done.stdout.splitlines()[1:])) <= info.WIDTH


def test_what_is_inside_of_ours(resaved: Path, extracted: Path) -> None:
    rows = " ".join(info.format_checkpoint_info(resaved).split())
    assert "kind ours, schema 5, training revision 2" in rows
    assert f"torch {torch.__version__}" in rows
    assert "remark" not in rows
    stored = torch.load(resaved, weights_only=True)["detector"]["embedding"]
    (encoder,) = stored["encoders"]
    assert len(encoder["checkpoint_sha256"]) == 64
    assert f"BEATs, frame embeddings of {stored['size']} features (weights with SHA-256 " in rows
    assert f"weights with SHA-256 {encoder['checkpoint_sha256']}" in rows
    assert encoder["n_tokens"] == 496
    assert stored["size"] == with_embedding_size(load_config(extracted)).net.embedding_size


def test_what_is_inside_says_what_is_wrong(resaved: Path, tmp_path: Path) -> None:
    path = shutil.copy(resaved, tmp_path / "a.ckpt")
    content = torch.load(path, weights_only=True)
    content["state_dict"]["sed_student.dense.bias"][:2] = float("nan")
    torch.save(content, path)
    rows = " ".join(info.format_checkpoint_info(path).split())
    assert "its training had diverged" in rows
    assert "sed_student.dense.bias: 2 of 27 values are not finite" in rows
    content["state_dict"]["sed_student.dense.bias"] = torch.zeros(5)
    content["versions"] = {"torch": "\x1b[2J"}
    torch.save(content, path)
    rows = " ".join(info.format_checkpoint_info(path).split())
    assert "sed_student.dense.bias: shape (5,) in the checkpoint, (27,) in the network" in rows
    assert "torch ?[2J" in rows
