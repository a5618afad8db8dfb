import sys

import pytest

from desed_task import errors
from desed_task.errors import (
    CONSOLE_COMMANDS,
    STARTED_BY_CONSOLE,
    InputError,
    command_line,
    command_name,
)
from desed_task.file_names import looked_up_from


@pytest.fixture(autouse=True)
def _started_by_nothing(monkeypatch):
    monkeypatch.delenv(STARTED_BY_CONSOLE, raising=False)


def test_in_a_checkout_messages_name_the_script(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_pretrained.py", "--gpus", "0"])
    assert command_name("predict.py") == "predict.py"
    assert command_line("predict.py", "a.wav") == "python predict.py a.wav"
    assert command_line("predict.py") == "python predict.py"


@pytest.mark.parametrize(
    ("started", "line"),
    [
        ("../recipe/train_pretrained.py", "python ../recipe/predict.py"),
        ("/my recipes/train_pretrained.py", "python '/my recipes/predict.py'"),
        ("/usr/bin/pytest", "python predict.py"),
        ("", "python predict.py"),
    ],
)
def test_a_line_to_copy_leads_to_the_script_from_where_the_user_is(monkeypatch, started, line):
    monkeypatch.setattr(sys, "argv", [started])
    assert command_line("predict.py") == line


@pytest.mark.parametrize("script", CONSOLE_COMMANDS)
def test_what_a_console_command_started_names_console_commands(monkeypatch, script):
    monkeypatch.setenv(STARTED_BY_CONSOLE, "desed-tune")
    assert command_name(script) == CONSOLE_COMMANDS[script]
    assert command_line(script, "--help") == f"{CONSOLE_COMMANDS[script]} --help"


def test_without_scripts_beside_the_package_there_are_only_console_commands(monkeypatch, tmp_path):
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "desed_task" / "errors.py"))
    assert command_line("extract_embeddings.py") == "desed-extract"


def test_several_missing_paths_tell_their_folder_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    one = f"a: no such file{looked_up_from('a')}; make it"
    assert str(InputError.collect([one], "Missing:")) == (
        f"Missing:\n  - a: no such file (looked up from {tmp_path}); make it"
    )
    absolute = f"/b: no such file{looked_up_from('/b')}"
    assert str(InputError.collect([one, absolute, one], most_shown=2)) == (
        "a: no such file; make it\n/b: no such file\n... and 1 more\n"
        f"relative paths are looked up from {tmp_path}"
    )


def test_a_folder_that_is_gone_is_no_reason_to_fail(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert looked_up_from("a") == " (looked up from a folder that does not exist any more)"
