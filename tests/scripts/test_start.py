"""How scripts start: wrong arguments and Ctrl-C before PyTorch, supplied files, default folders."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf

from desed_task.errors import CONSOLE_COMMANDS
from local.config import SHIPPED, load_config
from tests.conftest import ROOT, plain_text
from tests.in_process import run_main

SCRIPTS = [script.removesuffix(".py") for script in CONSOLE_COMMANDS]
# Script -> command lines with one mistake each; a.wav is an empty file, a.ckpt a zip archive.
MISTAKES: dict[str, list[str]] = {
    "generate_dcase_task4_2024": [
        "--mini --offline --dry_run",
        "--jobs 0",
        "--check --conf_file none",
        "--offline --basedir none",
        "--offline --conf_file none",
        "--dry_run --sources none.yaml",
    ],
    "extract_embeddings": [
        "--nonsense",
        "--conf_file none.yaml",
        "--set net",
        "--set net.dropot=0.3",
        "--only none",
        "--only devtest --conf_file mini",  # no data
        "--only devtest --set data.test_folder=audio --pretrained_model none.pt",
    ],
    "train_pretrained": [
        "--nonsense",
        "--conf_file none.yaml",
        "--set net",
        "--set net.dropot=0.3",
        "--gpus first",
        "--threads 0",
        "--resume_from_checkpoint none.ckpt",
        "--test_from_checkpoint none.ckpt",
        "--test_from_checkpoint a.wav",
        "--eval_from_checkpoint none.ckpt",
        "--checkpoint_info none.ckpt",
        "--checkpoint_info a.ckpt --verify_metrics",
    ],
    "predict": [
        "a.wav --checkpoint none.ckpt",
        "none.wav --checkpoint a.ckpt",
        "a.wav --checkpoint a.ckpt --threshold high",
        "a.wav --checkpoint a.ckpt --threshold Dog=1,Dog=1",
        "a.wav --checkpoint a.ckpt --gpus first",
        "a.wav --checkpoint a.ckpt --conf_file none.yaml",
        "a.wav --checkpoint a.ckpt --set predict=1",
        "a.wav --checkpoint a.ckpt --formats mp3",
        "a.wav --checkpoint atst_frame_strong",
        "a.wav --checkpoint atst_fram",
        "a.wav --checkpoint m2d_ssl",
        "a.wav --checkpoint a.ckpt --checkpoint ./a.ckpt",
        "a.wav --checkpoint a.ckpt a.ckpt",
        "--list_checkpoints --merge",
        "empty --checkpoint a.ckpt",
    ],
    "optuna_pretrained": [
        "--conf_file none.yaml",
        "--space none.yaml",
        "--set net",
        "--sweep",
        "--test_from_checkpoint none.ckpt",
        "--test_from_checkpoint a.ckpt --report",
        "--n_jobs 0",
    ],
    "summarize_runs": ["none", "audio none", "audio --against none", "audio --conf_file none.yaml"],
    "make_submission": ["", "none", "audio --also none", "audio --baseline none"],
}
# Script -> a command line without mistakes, as far as can be told without PyTorch.
RIGHT = {
    "generate_dcase_task4_2024": "--check",
    "extract_embeddings": "--only devtest --set data.test_folder=audio --pretrained_model a.wav",
    "train_pretrained": "--set training.seed=1",
    "predict": "a.wav --checkpoint a.ckpt --threshold 0.4 --gpus 0",
    "optuna_pretrained": "--n_trials 1",
    "summarize_runs": "audio",
    "make_submission": "audio",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A user's folder."""
    (tmp_path / "a.wav").touch()
    (tmp_path / "a.ckpt").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "empty").mkdir()
    (tmp_path / "audio").mkdir()
    sf.write(tmp_path / "audio" / "a.wav", [0.1] * 160, 16000)
    return tmp_path


def started(*command: str, cwd: Path, path: Path) -> tuple[int, str, str]:
    """Status, output and errors of a Python process that finds modules in `path` first."""
    search = f"{path}{os.pathsep}{ROOT}"
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
    )
    return done.returncode, plain_text(done.stdout), plain_text(done.stderr)


def test_wrong_arguments_are_told_before_pytorch_is_imported(folder):
    """All in one process, which starts slowly."""
    assert set(MISTAKES) == set(SCRIPTS)
    program = f"""
import importlib, sys
for script, lines in {MISTAKES!r}.items():
    main = importlib.import_module(script).main
    for line in lines:
        sys.argv = [script + ".py"]
        try:
            status = main(line.split())
        except SystemExit as end:
            status = end.code
        assert status == 2, (script, line, status)
        assert "torch" not in sys.modules, (script, line)
"""
    status, _, errors = started("-c", program, cwd=folder, path=folder)
    assert status == 0, errors
    n_mistakes = sum(map(len, MISTAKES.values()))
    assert errors.count("error: ") == n_mistakes and "Traceback" not in errors


@pytest.fixture
def interrupting(tmp_path):
    """Name of a module -> a folder with one that presses Ctrl-C and fails as some packages do."""

    def make(module: str) -> Path:
        place = tmp_path / "interrupting"
        place.mkdir()
        (place / f"{module}.py").write_text(
            "import os, signal, time\n"
            "try:\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "    time.sleep(60)\n"
            "except BaseException:\n"
            "    raise ImportError('the C extension failed') from None\n"
        )
        return place

    return make


STOPPED = "stopped before anything was done\n"


@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_while_pytorch_is_imported_leaves_one_line(script, folder, interrupting):
    words = RIGHT[script].split()
    path = interrupting("torch")
    status, _, errors = started(str(ROOT / f"{script}.py"), *words, cwd=folder, path=path)
    assert (status, errors) == (130, STOPPED)


@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_at_the_first_imports_leaves_one_line(script, folder, interrupting):
    path = interrupting("argparse")
    by_script = started(str(ROOT / f"{script}.py"), cwd=folder, path=path)
    by_command = started(
        "-c", f"import desed_recipe; desed_recipe.run({script!r})", cwd=folder, path=path
    )
    assert by_script == by_command == (130, "", STOPPED)


def test_a_command_that_ignores_ctrl_c_goes_on_ignoring_it(folder, interrupting):
    """As in the background of a shell."""
    program = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    program += "import desed_recipe, os; import local.cli.interrupts as i; i.leave_at_once()\n"
    program += "os.kill(os.getpid(), signal.SIGINT); print('on')"
    assert started("-c", program, cwd=folder, path=folder) == (0, "on\n", "")


def test_in_the_command_itself_ctrl_c_is_an_exception_again():
    from local.cli import interrupts

    before = signal.getsignal(signal.SIGINT)
    try:
        with interrupts.leaving_at_once():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
            interrupts.raise_again()
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_default_folders_are_not_committed():
    made = {"data/mini", "data_report.json", importlib.import_module("train_pretrained").LOG_DIR}
    for script in SCRIPTS:
        least = {"predict": ["--export", "onnx", "--checkpoint", "a"], "summarize_runs": ["a"]}
        least["make_submission"] = ["a"]
        args = vars(importlib.import_module(script).parse_args(least.get(script, [])))
        made |= {str(args[name]) for name in ("output_dir", "log_dir") if args.get(name)}
    for name in ("pretrained", "mini", "optuna"):
        tree = load_config(SHIPPED / f"{name}.yaml").dump()
        made |= {tree["pretrained"]["extracted_embeddings_dir"], tree["scaler"]["savepath"]}
        made |= {tree["pretrained"]["beats_checkpoint"], tree["data"]["packed_dir"]}
        made |= {path for path in tree["data"].values() if isinstance(path, str) and "/" in path}
    inside = {os.path.normpath(path) for path in made if path and not path.startswith("..")}
    assert {"summary", "submission", "predictions", "optuna", "exp/2024_baseline"} <= inside
    files = [path if os.path.splitext(path)[1] else f"{path}/x" for path in sorted(inside)]
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *files], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == files


def test_relative_paths_of_a_configuration_start_from_the_current_folder(folder):
    (folder / "elsewhere").mkdir()
    text = (ROOT / "confs" / "mini.yaml").read_text()
    (folder / "elsewhere" / "mine.yaml").write_text(text)
    words = ("--conf_file", "elsewhere/mine.yaml")
    done = run_main("extract_embeddings.py", *words, cwd=folder)
    assert done.returncode == 2 and done.stdout == ""
    assert f"no data in data/mini/dcase/dataset (looked up from {folder})" in done.stderr
    # Some of the data is there; the rest is listed, and the folder told once.
    there = folder / "data" / "mini" / "dcase" / "dataset" / "audio" / "validation"
    there.mkdir(parents=True)
    (folder / "audio").rename(there / "validation_16k")
    done = run_main("extract_embeddings.py", *words, cwd=folder)
    assert done.stderr.count(": no such folder; ") > 3
    assert f"\nrelative paths are looked up from {folder}\n" in done.stderr
    assert "(looked up from" not in done.stderr
    done = run_main("extract_embeddings.py", *words, "--only", "devtest", "weak_train", cwd=folder)
    assert f"weak_16k: no such folder (looked up from {folder}); " in done.stderr
