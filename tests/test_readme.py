"""README.md and HELP.md: every command in them is run or parsed, every message is in the code."""

import importlib
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile as sf
import yaml

from local import run
from local.config import load_config
from tests.desed_task.checkpoints import ours, saved, small_spec

ROOT = Path(__file__).parents[1]
TEXTS = ("README.md", "HELP.md")
# Its commands are run one after the other as they stand; those of other sections are parsed.
RUN_AS_WRITTEN = "Step by step on the mini corpus"
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
WRITTEN = {"exp/tuning/best.yaml": "confs/mini.yaml"}


class Command(NamedTuple):
    """A line of a bash block."""

    file: str
    section: str
    line: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line)


def commands_of(file: str) -> list[Command]:
    found, section, inside = [], "", False
    for line in (ROOT / file).read_text().splitlines():
        if line.startswith("```"):
            inside = line == "```bash"
        elif inside and line.strip():
            found.append(Command(file, section, line))
        elif line.startswith("#"):
            section = line.lstrip("# ")
    return found


COMMANDS = [command for file in TEXTS for command in commands_of(file)]
SEQUENCE = [command for command in COMMANDS if command.section == RUN_AS_WRITTEN]
PARSED = [c for c in COMMANDS if c not in SEQUENCE and c.words[:1] == ["python"]]
MADE = [c for c in COMMANDS if c.words[0] == "make"]
# Shown by others: by test_packaging, by the sequence, by there being an environment at all, and by
# test_audioset, where the code recommends it word by word.
ELSEWHERE = {
    "pip install --upgrade 'yt-dlp[default]'",
    "source .venv/bin/activate",
    "bash conda_create_environment.sh",
    "conda activate dcase2024",
    "tensorboard --logdir exp/2024_baseline",
    "tensorboard --logdir exp/2024_baseline --port 6007",
}


def lines(commands: list[Command]) -> list[str]:
    return sorted({command.line for command in commands})


def test_no_command_is_left_out():
    assert len(SEQUENCE) >= 8
    assert {c.file for c in COMMANDS} == set(TEXTS)
    shown = {*lines(SEQUENCE), *lines(PARSED), *lines(MADE), *ELSEWHERE}
    assert set(lines(COMMANDS)) == shown


@pytest.mark.parametrize("file", TEXTS)
def test_every_block_says_its_language(file):
    fences = re.findall(r"^```.*$", (ROOT / file).read_text(), re.M)
    assert set(fences[::2]) == {"```bash"}
    assert set(fences[1::2]) == {"```"}


@pytest.mark.parametrize("line", lines(MADE))
def test_make_targets_exist(line, tmp_path):
    command = [*shlex.split(line), "--dry-run", f"VENV={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("line", lines(PARSED))
def test_commands_are_understood(line, monkeypatch):
    """By the script's own parser and, with what --set changes, the check of the configuration."""
    monkeypatch.chdir(ROOT)
    program, *arguments = (WRITTEN.get(word, word) for word in shlex.split(line)[1:])
    if program == "-c":
        subprocess.run([sys.executable, "-c", *arguments], check=True)
        return
    if program == "-m":
        importlib.import_module(f"{arguments[0]}.__main__").parse_args(arguments[1:])
        return
    assert program in SCRIPTS
    script = importlib.import_module(program.removesuffix(".py"))
    if program == "train_pretrained.py" and "--checkpoint_info" not in arguments:
        configs = []
        for name in ("fit", "test"):
            monkeypatch.setattr(run, name, lambda config, *_, **__: configs.append(config))
        assert script.main(arguments) == 0
        assert len(configs) == 1
    else:
        args = script.parse_args(arguments)
        if getattr(args, "conf_file", None):
            load_config(args.conf_file, getattr(args, "overrides", ()))
        assert not getattr(args, "only", None) or set(args.only) <= set(known_sets())


def known_sets() -> tuple[str, ...]:
    from local.embedding_sets import SETS

    return tuple(SETS)


# Stands for `python`: the real scripts, but --mini makes the small corpus of the tests.
LAUNCHER = """
import runpy, sys
from local.prep import mini_corpus
mini_corpus.MiniSizes = mini_corpus.MiniSizes.small
sys.argv.pop(0)
runpy.run_path(f"{ROOT}/{sys.argv[0]}", run_name="__main__")
"""


@pytest.fixture
def checkout(extracted, mini_root, small_tree, tmp_path):
    """A folder as a checkout is after `make setup`, the session's corpus and embeddings in it."""
    for name in ("data", "embeddings"):
        (tmp_path / name).symlink_to(mini_root / name)
    (tmp_path / "confs").mkdir()
    (tmp_path / "confs" / "mini.yaml").write_text(yaml.safe_dump(small_tree("mini.yaml")))
    launcher = tmp_path / "launcher.py"
    launcher.write_text(f"ROOT = {str(ROOT)!r}\n{LAUNCHER}")
    (tmp_path / "bin").mkdir()
    for name, call in (
        ("python", f'{launcher} "$@"'),
        # Instead of serving until it is stopped, it lists what it would show.
        ("tensorboard", '-m tensorboard.main --inspect "$@"'),
    ):
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\nexec {sys.executable} {call}\n")
        path.chmod(0o755)
    return tmp_path


def test_the_steps_run_as_written(checkout):
    environment = {
        **os.environ,
        "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    told = {}
    for command in SEQUENCE:
        done = subprocess.run(
            ["bash", "-c", command.line],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
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
    events = {path.suffix for path in (checkout / "exp/mini_events").iterdir()}
    assert events == {".tsv", ".json", ".txt", ".png"}
    assert (checkout / "exp/mini_summary/summary.json").is_file()
    left = {Path(path).name for path in there if path.startswith("exp/mini/")}
    assert unmentioned(left) == []


def test_python_in_readme_runs(tmp_path, monkeypatch, run_script, capsys):
    """The blocks of Python, one after the other, on a network without embeddings."""
    text = (ROOT / "README.md").read_text()
    blocks = [textwrap.dedent(block) for block in re.findall(r"\n\n((?: {4}.*\n)+)", text)]
    assert len(blocks) == 2
    checkpoint = saved(ours(small_spec(use_embeddings=False)), tmp_path / "best.ckpt")
    sf.write(tmp_path / "clip.wav", np.zeros(160000), 16000)
    done = run_script(
        *("predict.py", "--export", "onnx", "--checkpoint", checkpoint, "--output_dir", "graphs"),
        *("--conf_file", ROOT / "confs/pretrained.yaml"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block, {"waveform": np.zeros(44100 * 3)})
    told = capsys.readouterr().out
    # Events, the shape of their scores, and after them a line a class of the second block.
    labels = small_spec(use_embeddings=False).classes
    assert "SoundEvent(" in told and re.search(rf"\(\d+, {len(labels)}\) \[0\. ", told)
    assert [line.rsplit(maxsplit=2)[0] for line in told.splitlines()[-len(labels) :]] == [*labels]


def unmentioned(names: set[str]) -> list[str]:
    """Files of a run folder that README's table of it does not explain."""
    table = (
        (ROOT / "README.md").read_text().split("## What a run leaves behind")[1].split("\n## ")[0]
    )
    known = [name.split("/")[0] for name in re.findall(r"`([^`]+)`", table)]
    return sorted(name for name in names if not any(Path(name).match(k) for k in known if k))


def code() -> str:
    """Our sources as one text, strings that stand side by side joined."""
    files = [*ROOT.glob("*.py"), *(ROOT / "local").rglob("*.py")]
    files += [*(ROOT / "desed_task").rglob("*.py"), *ROOT.glob("*.sh"), ROOT / "Makefile"]
    return re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in files))


def test_messages_in_help_are_those_of_the_code():
    quoted = re.findall(r"\*\*`([^`]+)`\*\*", (ROOT / "HELP.md").read_text())
    assert len(quoted) > 20
    text = code()
    assert [message for message in quoted if message not in text] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_readme_lists_every_flag(script, capsys):
    """With its table, neither more nor less than `--help` tells."""
    with pytest.raises(SystemExit):
        importlib.import_module(script.removesuffix(".py")).parse_args(["--help"])
    usage = capsys.readouterr().out.split("\n\n")[0]
    table = (ROOT / "README.md").read_text().split(f"\n`{script}`\n\n")[1].split("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    listed = {flag for cell in rows for flag in re.findall(r"--\w+", cell)}
    # The usage shows one of two names.
    second = {"--gpu", "--confs"}
    assert listed - second == set(re.findall(r"--\w+", usage)) - {"--help"} - second


def test_readme_tells_the_defaults(capsys):
    """Those that the help of `--batch_size` and `--jobs` tells, and those that the parser holds."""
    text = (ROOT / "README.md").read_text()
    for script in SCRIPTS:
        module = importlib.import_module(script.removesuffix(".py"))
        rows = text.split(f"\n`{script}`\n\n")[1].split("\n\n")[0].splitlines()[2:]
        cells = {row.split(" | ")[0].strip("|` "): row.split(" | ")[1] for row in rows}
        held = vars(module.parse_args(SCRIPTS[script]))
        for name in ("conf_file", "log_dir", "pretrained_model", "model", "resamples", "seed"):
            if held.get(name) is not None:
                assert cells[f"--{name}"] == f"`{held[name]}`"
        with pytest.raises(SystemExit):
            module.parse_args(["--help"])
        told = " ".join(capsys.readouterr().out.split())
        for flag in ("--batch_size", "--jobs"):
            if flag in cells:
                assert f"(default: {cells[flag]})" in told


@pytest.mark.parametrize("file", TEXTS)
def test_links_lead_somewhere(file):
    text = (ROOT / file).read_text()
    headings = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in headings
        else:
            assert (ROOT / link.partition("#")[0]).exists()
