"""The commands that the kill loop runs, and their small inputs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from local.prep.mini_corpus.make import make_mini_corpus
from local.prep.mini_corpus.sets import MiniSizes

ROOT = Path(__file__).resolve().parents[1]
OUT = "out"
INPUTS = "inputs"
_CONF = f"{INPUTS}/mini.yaml"
_MADE_CORPUS = """
from pathlib import Path
from local.prep.mini_corpus.make import make_mini_corpus
from local.prep.mini_corpus.sets import MiniSizes
make_mini_corpus(Path("out"), sizes=MiniSizes.small())
"""
_PACKED = """
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.data.loading.packed_corpora import pack_corpora
config = load_config("inputs/mini.yaml", ["data.packed_dir=out"])
data = SedDataModule(config)
for stage in ("fit", "predict"):
    data.check(stage)
    pack_corpora([data.loaded[one.name] for one in data.task.needed_by(stage)], config, data.grid,
                 progress=True)
"""
_SPACE = {
    "training": {
        "opt.lr": {"kind": "float", "low": 0.001, "high": 0.1, "log": True},
        "net.n_RNN_cell": {"kind": "categorical", "choices": [4, 8]},
    },
    "postprocessing": {"net.median_filter.*": {"kind": "int", "low": 1, "high": 21, "step": 2}},
}


# Each kind of stage, of which two can run side by side.
_PLAN: dict[str, Any] = {
    "conf_file": _CONF,
    "jobs": 2,
    # Reports state the energy that was measured, which no two runs have in common.
    "set": {
        "pretrained.extracted_embeddings_dir": f"{OUT}/embeddings",
        "energy.enabled": False,
    },
    "encoders": {
        "atst": {"model": "atst_frame", "checkpoint": f"{INPUTS}/data/atst_frame_mini.pt"}
    },
    "stages": {
        "embeddings": {"kind": "embeddings", "encoder": "atst"},
        "first": {"kind": "train", "encoder": "atst", "needs": "embeddings"},
        "second": {
            "kind": "train",
            "encoder": "atst",
            "init_from": "first",
            "set": {"pretrained.e2e": True, "pretrained.freezed": False},
        },
        "labels": {"kind": "pseudo_labels", "checkpoints": ["first", "second"]},
        "third": {
            "kind": "train",
            "encoder": "atst",
            "pseudo_labels": "labels",
            "needs": "embeddings",
            "set": {"losses.pseudo": 1.0},
        },
        "boxes": {"kind": "tune_boxes", "checkpoints": "second", "space": _CONF},
        "boxed": {"kind": "test", "checkpoints": "second", "boxes": "boxes"},
        "ensemble": {"kind": "test", "checkpoints": ["second", "third"]},
        "report": {"kind": "report", "runs": "ensemble", "against": "boxed", "resamples": 0},
    },
}


class Command(NamedTuple):
    """A command that writes to `out`, run beside `inputs`.

    Attributes:
        arguments: of Python.
        inputs: what it reads, made once; the names of `MAKERS`.
        steps: patterns of the lines at which a named step begins and ends, where it says so.
    """

    arguments: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    steps: tuple[str, str] | None = None


def _script(name: str, *arguments: str) -> tuple[str, ...]:
    return (str(ROOT / name), *arguments)


COMMANDS = {
    "mini": Command(("-c", _MADE_CORPUS)),
    "prepare": Command(
        _script(
            *("generate_dcase_task4_2024.py", "--offline", "--basedir", f"{INPUTS}/originals"),
            *("--conf_file", str(ROOT / "confs/pretrained.yaml")),
            *("--out_dir", OUT),
        ),
        ("corpus", "originals"),
    ),
    "extract": Command(
        _script(
            *("extract_embeddings.py", "--conf_file", _CONF, "--eval_set", "--batch_size", "4"),
            *("--output_dir", OUT),
        ),
        ("corpus",),
    ),
    "pack": Command(("-c", _PACKED), ("corpus", "embeddings")),
    "train": Command(
        _script(
            *("train_pretrained.py", "--conf_file", _CONF, "--log_dir", f"{OUT}/runs"),
            *("--resume_from_checkpoint", "auto", "--set", "training.n_epochs=6"),
            *("--set", "training.early_stop_patience=1"),
            *("--set", "scaler.statistic=dataset", "--set", f"scaler.savepath={OUT}/scaler.ckpt"),
        ),
        ("corpus", "embeddings"),
    ),
    "tune": Command(
        _script("optuna_pretrained.py", "--conf_file", _CONF, "--log_dir", OUT, "--n_jobs", "1"),
        ("corpus", "embeddings"),
    ),
    "medians": Command(
        _script(
            *("optuna_pretrained.py", "--conf_file", _CONF, "--log_dir", OUT, "--n_trials", "20"),
            *("--test_from_checkpoint", f"{INPUTS}/best.ckpt"),
        ),
        ("corpus", "embeddings", "training"),
    ),
    "submit": Command(
        _script(
            *("make_submission.py", f"{INPUTS}/evaluation/version_0", "--output_dir", OUT),
            *("--metadata", f"{INPUTS}/meta.yaml", "--baseline", f"{INPUTS}/runs/version_0"),
        ),
        ("corpus", "embeddings", "training", "evaluation", "form"),
    ),
    "plan": Command(
        _script("train_pretrained.py", "--plan", f"{INPUTS}/plan.yaml", "--log_dir", f"{OUT}/plan"),
        ("corpus", "plan"),
        (r"\[\d+/\d+\] (\w+) \(\w+\) (?:begins|resumes)", r"(\w+) is done"),
    ),
}


def make_inputs(work: Path, names: tuple[str, ...]) -> None:
    """Make the inputs that are missing below `work`."""
    for name in names:
        mark = work / INPUTS / f".{name}"
        if not mark.is_file():
            MAKERS[name](work)
            mark.touch()


def run_script(work: Path, *arguments: str) -> None:
    """Run a script of the recipe beside the inputs; it must succeed."""
    done = subprocess.run(
        [sys.executable, *_script(*arguments)], cwd=work, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _corpus(work: Path) -> None:
    base = work / INPUTS / "data"
    if not base.exists():
        make_mini_corpus(base, sizes=MiniSizes.small(), progress=False, jobs=1)
    text = (ROOT / "confs" / "mini.yaml").read_text(encoding="utf-8")
    tree: dict[str, Any] = yaml.safe_load(text.replace("./data/mini/", f"{INPUTS}/data/"))
    tree["pretrained"]["extracted_embeddings_dir"] = f"{INPUTS}/embeddings"
    tree["training"].update(
        batch_size=[2, 1, 1, 2, 2],
        batch_size_val=8,
        n_epochs_warmup=1,
        epoch_decay=1,
        n_epochs=2,
        validation_interval=1,
        # Everything that draws at random is on, so that resuming has something to get wrong.
        mixup="soft",
    )
    tree["data"]["packed_dir"] = None  # a command of its own packs
    n_blocks = len(tree["net"]["nb_filters"])
    tree["net"].update(
        nb_filters=[*[4] * (n_blocks - 1), 8], n_RNN_cell=8, dropout=0.1, dropstep_recurrent=0.3
    )
    tree["optuna"] = {"n_trials": 3, **_SPACE}
    (work / _CONF).write_text(yaml.safe_dump(tree), encoding="utf-8")


def _originals(work: Path) -> None:
    """The corpus as published: without 16 kHz audio, MAESTRO's clips and durations."""

    def made(folder: str, names: list[str]) -> list[str]:
        endings = ("_16k", "_durations.tsv", "maestro_real_train", "maestro_real_validation")
        return [name for name in names if name.removesuffix(".tsv").endswith(endings[:1])] + [
            name for name in names if name.endswith(endings[1:])
        ]

    source, target = work / INPUTS / "data", work / INPUTS / "originals"
    for part in ("dcase", "maestro_real"):
        shutil.copytree(source / part, target / part, ignore=made)


def _embeddings(work: Path) -> None:
    run_script(work, "extract_embeddings.py", "--conf_file", _CONF, "--eval_set")


def _training(work: Path) -> None:
    runs = f"{INPUTS}/runs"
    run_script(work, "train_pretrained.py", "--conf_file", _CONF, "--log_dir", runs)
    (best,) = (work / runs).glob("version_0/checkpoints/epoch=*.ckpt")
    shutil.copyfile(best, work / INPUTS / "best.ckpt")


def _evaluation(work: Path) -> None:
    (best,) = (work / INPUTS).glob("runs/version_0/checkpoints/epoch=*.ckpt")
    settings = ("--conf_file", _CONF, "--log_dir", f"{INPUTS}/evaluation")
    run_script(work, "train_pretrained.py", *settings, "--eval_from_checkpoint", str(best))


def _form(work: Path) -> None:
    path = work / INPUTS / "meta.yaml"
    run_script(work, "make_submission.py", "--write_metadata", str(path))
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    tree["submission"].update(label="Turing_NPL_task4_1", name="Bombe", abbreviation="B")
    (author,) = tree["submission"]["authors"]
    author.update(lastname="Turing", firstname="Alan", email="a@example.org")
    author["affiliation"].update(abbreviation="NPL", institute="NPL", location="Teddington")
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")


def _plan(work: Path) -> None:
    text = yaml.safe_dump(_PLAN, sort_keys=False)
    (work / INPUTS / "plan.yaml").write_text(text, encoding="utf-8")


MAKERS: dict[str, Callable[[Path], None]] = {
    "corpus": _corpus,
    "originals": _originals,
    "embeddings": _embeddings,
    "training": _training,
    "evaluation": _evaluation,
    "form": _form,
    "plan": _plan,
}
