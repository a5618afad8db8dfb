"""docs/scaling.md: shell blocks, SLURM options and commands are valid, and its tables computed."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from torch.distributed.run import get_args_parser

from benchmarks import scaling
from local.config import load_config
from tests.markdown_pages import DOCS, ROOT

PAGE = DOCS["scaling"]
BLOCKS = PAGE.blocks("bash")
JOBS = [block for block in BLOCKS if "#SBATCH" in block]
NUMBER, TIME = r"[1-9]\d*", r"(\d+-)?\d{1,2}(:\d{2}){1,2}"
# Options of sbatch (SLURM 21.08 to 25.05) that the page uses; None: takes no value.
SBATCH = {
    "--array": rf"{NUMBER}(-{NUMBER})?(%{NUMBER})?",
    "--cpus-per-task": NUMBER,
    "--dependency": r"after(any|ok|notok)?:\S+",
    "--gpus": NUMBER,
    "--gpus-per-node": NUMBER,
    "--job-name": r"[\w-]+",
    "--nodes": NUMBER,
    "--ntasks": NUMBER,
    "--ntasks-per-node": NUMBER,
    "--output": r"[\w%./-]+\.log",
    "--parsable": None,
    "--requeue": None,
    "--time": TIME,
}
SRUN = {"--kill-on-bad-exit": r"[01]", "--cpus-per-task": NUMBER}
# Patterns that sbatch replaces in --output.
REPLACED = {"%x", "%j", "%A", "%a"}
# Words that begin lines which are no commands of ours.
SHELL = {"export", "source", "#!/bin/bash"}


class Line(NamedTuple):
    """A logical line of a shell block, and its words with variables replaced."""

    block: int
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(re.sub(r"\$\{?(\w+)\}?", "7", self.text))


def logical_lines(block: str) -> Iterator[str]:
    """Lines with their continuations, without comments."""
    for line in block.replace("\\\n", " ").splitlines():
        if line.strip() and (not line.startswith("#") or line.startswith("#!")):
            yield line


LINES = [Line(n, line) for n, block in enumerate(BLOCKS) for line in logical_lines(block)]


def options_of(words: list[str], known: dict[str, str | None]) -> list[str]:
    """Check the options that words begin with; returns the words behind them."""
    while words and words[0].startswith("--"):
        name, sign, value = words[0].partition("=")
        assert name in known, words[0]
        pattern = known[name]
        assert bool(sign) == (pattern is not None), words[0]
        assert pattern is None or re.fullmatch(pattern, value), words[0]
        words = words[1:]
    return words


def command_of(line: Line) -> list[str]:
    """The words of a command of ours, behind srun; empty for other lines."""
    words = line.words
    while len(words) > 1 and words[0].partition("=")[0].isidentifier() and "=" in words[0]:
        words = words[1:]  # a variable for the command
    if words[0] == "srun":
        words = options_of(words[1:], SRUN)
        assert words[0] == "python"
    return words if words[0] in ("python", "torchrun") else []


COMMANDS = [line for line in LINES if command_of(line)]


def options_of_job(job: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH ") for line in job.splitlines() if "#SBATCH" in line]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_the_page_has_what_it_is_to_have():
    assert len(JOBS) >= 6
    first = {line.words[0] for line in LINES if line not in COMMANDS}
    assert first - SHELL == {"sbatch", "job=$(sbatch --parsable predict.sh)"}
    used = {command_of(line)[1] for line in COMMANDS if command_of(line)[0] == "python"}
    named = {"train_pretrained", "extract_embeddings", "predict", "optuna_pretrained"}
    assert {f"{name}.py" for name in named} <= used
    in_jobs = {line for line in COMMANDS if BLOCKS[line.block] in JOBS}
    assert {re.search(r"(\w+)\.py", line.text)[1] for line in in_jobs} == named


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_shell_can_read_every_block(block):
    done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def parsed(script: str, arguments: list[str]) -> None:
    assert (ROOT / script).is_file(), script
    args = importlib.import_module(script.removesuffix(".py")).parse_args(arguments)
    if getattr(args, "overrides", None):
        load_config(ROOT / "confs/pretrained.yaml", args.overrides)


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.text[:60])
def test_commands_are_understood_by_their_scripts(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    program, *words = command_of(line)
    if program == "torchrun":
        options = get_args_parser().parse_args(words)
        assert options.nnodes == "2" and options.node_rank in (0, 1)
        assert int(options.nproc_per_node) >= 1 and options.master_addr == "node1"
        parsed(options.training_script, options.training_script_args)
    elif words[0] == "-m":
        assert (ROOT / f"{words[1].replace('.', '/')}.py").is_file() and len(words) == 2
    else:
        parsed(words[0], words[1:])


def test_both_machines_run_the_same_command():
    lines = [line.text for line in COMMANDS if line.words[0] == "torchrun"]
    assert len(lines) == 2 and lines[0] != lines[1]
    assert lines[0].replace("--node_rank=0", "--node_rank=1") == lines[1]


# ---- SLURM


@pytest.mark.parametrize("job", JOBS, ids=lambda job: options_of_job(job)["--job-name"])
def test_jobs_ask_for_what_slurm_and_the_command_take(job):
    lines = job.splitlines()
    assert lines[0] == "#!/bin/bash"
    asked = [line for line in lines if "SBATCH" in line and line.startswith("#")]
    # sbatch reads no more options behind the first command.
    assert lines[1 : len(asked) + 1] == asked
    for line in asked:
        comment, option = line.split(" ", 1)
        assert comment == "#SBATCH" and options_of([option], SBATCH) == []
    options = options_of_job(job)
    assert len(options) == len(asked)
    assert {"--job-name", "--time", "--output", "--cpus-per-task"} <= set(options)
    assert set(re.findall(r"%\w", options["--output"])) <= REPLACED
    by_srun = "\nsrun " in job
    assert by_srun == ("--ntasks-per-node" in options) != (options.get("--ntasks") == "1")
    if by_srun:
        assert 'SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"' in job
        tasks, gpus = int(options["--ntasks-per-node"]), int(options["--gpus-per-node"])
        assert tasks == (1 if "optuna_pretrained.py" in job else gpus)
        assert int(options["--cpus-per-task"]) * tasks == 8 * gpus


def test_an_array_has_as_many_jobs_as_shards():
    (job,) = (job for job in JOBS if "--shard" in job)
    first, last = options_of_job(job)["--array"].split("-")
    assert first == "1" and f'--shard "$SLURM_ARRAY_TASK_ID/{last}"' in job
    assert "--skip_existing" in job
    folder = re.search(r"--output_dir (\S+)", job)[1]
    (merge,) = (job for job in JOBS if "--merge" in job)
    assert f"--output_dir {folder} " in merge


def test_submitted_files_are_those_of_the_page():
    names = {f"{options_of_job(job)['--job-name']}.sh" for job in JOBS}
    assert len(names) == len(JOBS)
    submitted = [call.split() for call in re.findall(r"\bsbatch (--[^)`\n]+)", PAGE.text)]
    assert len(submitted) >= 3
    for words in submitted:
        told = [word.replace('"', "").replace("$job", "7") for word in words]
        (file,) = options_of(told, SBATCH)
        assert file in names
    assert "`train.sh`" in PAGE.text


def test_wrong_options_are_seen():
    for wrong in (
        "--gpu=4",
        "--time=tomorrow",
        "--nodes",
        "--nodes=0",
        "--requeue=1",
        "--array=0-",
    ):
        with pytest.raises(AssertionError):
            options_of([wrong], SBATCH)


# ---- the projection


def test_tables_are_those_that_are_computed():
    messages = scaling.messages_of(load_config(scaling.CONFIG))
    for table in (scaling.training_table(messages), scaling.extraction_table()):
        assert f"\n{table}\n" in PAGE.text
    prose = " ".join(PAGE.text.split())
    assert scaling.facts(messages) in prose
    section = prose.split("## Projection")[1].split("## If something")[0]
    assert section.lstrip().startswith(
        "**This is a projection on paper; nothing in it was measured"
    )
    assumed = (
        f"links of {scaling.BANDWIDTH / 1e9:g} GB/s, {scaling.LATENCY_S * 1e6:g} us per message"
    )
    assert assumed in section and f"Machines have {scaling.GPUS_PER_MACHINE} GPUs." in section
    assert f"a step of {1000 * scaling.STEP_S:g} ms with Lightning, of which arithmetic" in section
    assert f"would take {1000 * scaling.ARITHMETIC_S:.0f} ms;" in section
    assert f"{1000 * scaling.EXTRACTION_S:g} ms per clip for an extraction in float32" in section
    assert f"take {scaling.PACKED_BYTES / 1e6:.2f} MB per clip" in section
    packed_gb = 30_000 * scaling.PACKED_BYTES / 1e9
    assert f"({packed_gb:.0f} GB for 30,000 clips" in section


def test_its_parts_are_those_that_were_measured():
    rows = {row[0]: row[1] for table in DOCS["speed"].tables() for row in table.rows}
    step = rows["training step: float32, tf32, bf16"]
    assert step.startswith("51 ms") and "19 % of the float32 GEMM rate" in step
    assert pytest.approx(0.19 * 0.051) == scaling.ARITHMETIC_S
    whole = re.findall(r"\d+", rows["training step with Lightning, packed sets on the GPU"])
    assert int(whole[0]) == round(1000 * scaling.STEP_S)
    assert rows["extraction, per clip: float32, bf16"].startswith(
        f"{1000 * scaling.EXTRACTION_S:g} ms"
    )
    assert f"batches of {scaling.CLIPS} clips" in DOCS["speed"].text
    assert sum(load_config(scaling.CONFIG).training.batch_size) == scaling.CLIPS
