"""README.md, HELP.md and docs: every command and block of Python runs or parses; flag tables."""

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import yaml

from desed_task.atomic_files import sha256_of
from desed_task.encoders.random_weights import write_random_encoder
from desed_task.errors import CONSOLE_COMMANDS
from local import run
from local.checkpoints import given, stored_config
from local.config import load_config
from local.plan.flags import check_plan_flags
from local.plan.reading import read_plan
from local.prep.mini_corpus import make
from local.prep.mini_corpus.sets import MiniSizes
from local.scoring import verification
from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec
from tests.in_process import run_main
from tests.markdown_pages import DOCS, PAGES, ROOT, SPAN, Command

# The commands of this section are run one after the other as they stand; others are parsed.
RUN_AS_WRITTEN = ("docs/training.md", "Step by step on the mini corpus")
# Script -> the least that it is called with.
SCRIPTS = {
    "generate_dcase_task4_2024.py": [],
    "extract_embeddings.py": [],
    "train_pretrained.py": [],
    "predict.py": ["a.wav", "--checkpoint", "a.ckpt"],
    "summarize_runs.py": ["exp/a/version_0"],
    "make_submission.py": ["exp/a/version_0"],
    "optuna_pretrained.py": [],
}
# What another command of the section writes -> what stands for it here.
WRITTEN = dict.fromkeys(("exp/tuning/best.yaml", "exp/boxes/best.yaml"), "confs/mini.yaml")
# Described by a command of the section, or by the reader -> what stands for it here.
DESCRIBED = {"recordings.yaml", "own.yaml", "data/mini_urban_sed/urban_sed.yaml"}
DESCRIPTION = """
task:
  classes: [bark, people talking, Cat]
  corpora:
    clips:
      audio: recordings_16k
      table: {path: "recordings/{clip}.txt", format: audacity}
      split: {by: recording, validation: 0.2, test: 0.2}
      rows: 4
  scored: {events: {validation: clips, test: clips}}
"""
# Its classes are in a file of the corpus.
VOCABULARY = {"confs/tasks/fsd50k.yaml": "confs/tasks/tut2017.yaml"}
# Shown by others: by there being an environment at all, by the sequence, by test_loggers, and by
# test_audioset, where the code recommends it word by word.
ELSEWHERE = {
    "pip install --upgrade 'yt-dlp[default]'",
    "pip install -e '.[wandb,mlflow]'",
    "source .venv/bin/activate",
    "tensorboard --logdir exp/2024_baseline --port 6007",
    # tests/test_encoders_page.py installs the encoder of the page.
    "python extract_embeddings.py --set pretrained.model=mel_conv",
    "python train_pretrained.py --set pretrained.model=mel_conv",
    # tests/test_installed.py builds and installs one.
    "python -m pip wheel . --no-deps --wheel-dir dist",
    "python -m pip install dist/desed_task-*.whl",
    # There is no container engine here; tests/test_container.py runs the steps of the Dockerfile.
    "docker build --tag dcase2024 .",
    "docker build --tag dcase2024:cuda --build-arg TORCH_INDEX= .",
    'docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" --gpus all --shm-size=8g '
    "dcase2024:cuda desed-train",
}
CONSOLE = {name: script for script, name in CONSOLE_COMMANDS.items()}
# Shell scripts: tests/test_scaling_page.py.
SCRIPTED = "docs/scaling.md"
COMMANDS = [c for page in PAGES.values() if page.name != SCRIPTED for c in page.commands()]
SEQUENCE = [command for command in COMMANDS if command[:2] == RUN_AS_WRITTEN]
PARSED = [
    c
    for c in COMMANDS
    if c not in SEQUENCE and c.line not in ELSEWHERE and c.words[0] in ("python", *CONSOLE)
]
MADE = [c for c in COMMANDS if c.words[0] == "make"]


def lines(commands: list[Command]) -> list[str]:
    return sorted({command.line for command in commands})


def test_no_command_is_left_out():
    assert len(SEQUENCE) >= 8
    assert {"README.md", "HELP.md", "docs/data.md", "docs/tuning.md"} <= {c.file for c in COMMANDS}
    shown = {*lines(SEQUENCE), *lines(PARSED), *lines(MADE), *ELSEWHERE}
    assert set(lines(COMMANDS)) == shown


@pytest.mark.parametrize("line", lines(MADE))
def test_make_targets_exist(line, tmp_path):
    command = [*shlex.split(line), "--dry-run", f"VENV={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("line", lines(PARSED))
def test_commands_are_understood(line, monkeypatch, tmp_path):
    """By the script's own parser and, with what --set changes, the check of the configuration."""
    monkeypatch.chdir(ROOT)
    own = tmp_path / "own.yaml"
    own.write_text(DESCRIPTION, encoding="utf-8")
    stand_ins = {**WRITTEN, **VOCABULARY, **dict.fromkeys(DESCRIBED, str(own))}
    words = [stand_ins.get(word, word) for word in shlex.split(line)]
    program, *arguments = [CONSOLE[words[0]], *words[1:]] if words[0] in CONSOLE else words[1:]
    if program == "-c":
        subprocess.run([sys.executable, "-c", *arguments], check=True)
        return
    if program == "-m":
        importlib.import_module(f"{arguments[0]}.__main__").parse_args(arguments[1:])
        return
    assert program in SCRIPTS
    script = importlib.import_module(program.removesuffix(".py"))
    if "--plan" in arguments:
        args = script.parse_args(arguments)
        check_plan_flags(args)
        read_plan(args.plan, args.overrides)
        return
    if program == "train_pretrained.py" and "--checkpoint_info" not in arguments:
        configs = []
        for name in ("fit", "test", "evaluate"):
            monkeypatch.setattr(run, name, lambda config, *_, **__: configs.append(config))
        monkeypatch.setattr(given, "given_checkpoint", lambda path, **_: path)
        mini = load_config(ROOT / "confs/mini.yaml")
        monkeypatch.setattr(stored_config, "config_of_training", lambda args: mini)
        monkeypatch.setattr(verification, "exit_status", lambda *_, **__: 0)  # of a run folder
        assert script.main(arguments) == 0
        assert len(configs) == 1
    else:
        args = script.parse_args(arguments)
        if getattr(args, "conf_file", None):
            load_config(args.conf_file, getattr(args, "overrides", ()))
        assert not getattr(args, "only", None) or set(args.only) <= set(known_sets())


def known_sets() -> tuple[str, ...]:
    from local.config import load_config
    from local.extraction.sets import sets_of

    return sets_of(load_config("confs/pretrained.yaml"))


@pytest.fixture
def checkout(extracted, mini_root, small_tree, tmp_path, monkeypatch, undrawn, few_resamples):
    """A folder as a checkout is after `make setup`, a copy of corpus and embeddings in it.

    --mini asks for the small corpus of the tests; pictures are blank and resamples few.
    """
    monkeypatch.setattr(make, "MiniSizes", MiniSizes.small)
    for name in ("data", "embeddings"):
        shutil.copytree(mini_root / name, tmp_path / name)
    (tmp_path / "confs").mkdir()
    (tmp_path / "confs" / "mini.yaml").write_text(yaml.safe_dump(small_tree("mini.yaml")))
    return tmp_path


def step(line, folder):
    """Run a line of a page in a folder, its words as the shell understands them."""
    shown = ["bash", "-c", rf"printf '%s\0' {line}"]
    told = subprocess.run(shown, cwd=folder, capture_output=True, text=True, check=True).stdout
    program, *words = told.rstrip("\0").split("\0")
    if program == "python":
        return run_main(*words, cwd=folder)
    assert program == "tensorboard"
    # Instead of serving until it is stopped, it lists what it would show.
    command = [sys.executable, "-m", "tensorboard.main", "--inspect", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_the_steps_run_as_written(checkout):
    told = {}
    for command in SEQUENCE:
        done = step(command.line, checkout)
        assert done.returncode == 0, f"{command.line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        told[command.line] = done.stdout
    assert "val/obj_metric" in told["tensorboard --logdir exp/mini"]
    assert "finished run" in next(text for line, text in told.items() if line.endswith(" auto"))
    there = {
        path.relative_to(checkout).as_posix()
        for pattern in ("exp/*/version_0/*", "data/mini/plots/*.png")
        for path in checkout.glob(pattern)
    }
    assert {
        "exp/mini/version_0/results.json",
        "exp/mini_test/version_0/results.json",
        "exp/mini_eval/version_0/metrics_test",
        "exp/try/version_0/checkpoints",
    } <= there
    assert any(path.endswith(".png") for path in there)
    assert "ours, schema" in next(text for line, text in told.items() if "_info" in line)
    results = (checkout / "exp/mini_events").glob("[!.]*")
    events = {path.suffix for path in results}
    assert events == {".tsv", ".json", ".txt", ".png"}
    assert (checkout / "exp/mini_summary/summary.json").is_file()
    assert unmentioned({Path(path).name for path in there if path.startswith("exp/mini/")}) == []
    assert unmentioned({Path(p).name for p in there if p.startswith("exp/mini_eval/")}) == []


def unmentioned(names: set[str]) -> list[str]:
    """Files of a run folder that the table of it does not explain."""
    table = next(t for t in DOCS["training"].tables() if t.section == "The run folder")
    known = [name.split("/")[0] for row in table.rows for name in SPAN.findall(row[0])]
    return sorted(name for name in names if not any(Path(name).match(k) for k in known if k))


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    """One after the other, on a network without embeddings and a recording of noise."""
    blocks = {page.name: page.blocks("python") for page in PAGES.values() if page.blocks("python")}
    assert len(blocks["README.md"]) == 1 and len(blocks["docs/predict.md"]) == 4
    del blocks["docs/encoders.md"]  # tests/test_encoders_page.py runs them
    spec = small_spec(use_embeddings=False)
    run_folder = tmp_path / "exp/mini/version_0/checkpoints"
    run_folder.mkdir(parents=True)
    checkpoint = saved(ours(spec), run_folder / "epoch=1.ckpt")
    (tmp_path / "exp/mini/version_1").mkdir()
    saved(ours(spec, more=1), tmp_path / "exp/mini/version_1/epoch=1.ckpt")
    released = tmp_path / "pretrained_models/ATST-F_strong_1.pt"
    write_random_encoder(released, "atst_frame", seed=1, width=64, n_classes=447)
    mark = {"checkpoint_sha256": sha256_of(checkpoint)}
    tuned = {"net": {"median_filter": [1] * 27}, "tuned": mark}
    (tmp_path / "best.yaml").write_text(json.dumps(tuned))  # JSON is YAML
    sf.write(tmp_path / "clip.wav", np.zeros(160000), 16000)
    sf.write(tmp_path / "street.wav", np.zeros((132300, 2)), 44100)
    done = run_main(
        *("predict.py", "--export", "onnx", "--checkpoint", checkpoint, "--output_dir", "graphs"),
        *("--conf_file", ROOT / "confs/pretrained.yaml"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    told = {}
    for name, page_blocks in blocks.items():
        for block in page_blocks:
            exec(block, {"waveform": np.zeros(44100 * 3)})
        told[name] = capsys.readouterr().out
    events = told["README.md"].splitlines()
    assert events
    assert all(re.fullmatch(r"[\d.]+ [\d.]+ .+ 0\.\d+", event) for event in events)
    # Events, the shape of their scores, and after them the events of the last block.
    found = told["docs/predict.md"]
    assert "SoundEvent(" in found and re.search(rf"\(\d+, {len(spec.classes)}\) \[0\. ", found)
    last = re.fullmatch(r"(.+) from [\d.]+ to [\d.]+ s", found.splitlines()[-1])
    assert last and last[1] in spec.classes


# ---- flags


def flag_rows(script: str) -> dict[str, tuple[str, str]]:
    """First cell -> default and meaning, of the table of a script's flags."""
    table = next(t for t in DOCS["commands"].tables() if t.section == script)
    assert table.head == ("flag", "default", "meaning")
    return {row[0]: (row[1], row[2]) for row in table.rows}


@pytest.mark.parametrize("script", SCRIPTS)
def test_tables_list_every_flag(script, capsys):
    """Neither more nor less than `--help` lists."""
    with pytest.raises(SystemExit):
        importlib.import_module(script.removesuffix(".py")).parse_args(["--help"])
    usage = capsys.readouterr().out.split("\n\n")[0]
    listed = {flag for cell in flag_rows(script) for flag in re.findall(r"--\w+", cell)}
    # The usage shows one of two names.
    second = {"--gpu", "--confs"}
    assert listed - second == set(re.findall(r"--\w+", usage)) - {"--help"} - second


def default_text(value: object) -> str:
    """A default as a table tells it."""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.removesuffix(".0").removeprefix("./")


@pytest.mark.parametrize("script", SCRIPTS)
def test_tables_tell_the_defaults(script, capsys):
    """Those that the parser has, and those that the help of `--batch_size` and `--jobs` tells."""
    module = importlib.import_module(script.removesuffix(".py"))
    cells = {
        SPAN.findall(cell)[0]: row[0] for cell, row in flag_rows(script).items() if "`" in cell
    }
    held = vars(module.parse_args(SCRIPTS[script]))
    defaults = {f"--{name}": value for name, value in held.items() if f"--{name}" in cells}
    given = dict(zip(SCRIPTS[script][::2], SCRIPTS[script][1::2], strict=False))
    told = {
        flag: " ".join(map(str, value))
        if isinstance(value, list)
        else str(value).removesuffix(".0")
        for flag, value in defaults.items()
        if value not in (None, False, []) and flag not in {*given, "--checkpoint"}
    }
    assert {flag: cells[flag].strip("`").removeprefix("./") for flag in told} == {
        flag: value.removeprefix("./") for flag, value in told.items()
    }
    with pytest.raises(SystemExit):
        module.parse_args(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for flag in ("--batch_size", "--jobs"):
        if flag in cells:
            assert f"(default: {cells[flag]})" in text
