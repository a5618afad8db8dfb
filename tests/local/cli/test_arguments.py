"""Numbers and thresholds as they are written on a command line."""

from __future__ import annotations

import argparse
import re

import pytest

from desed_task.errors import InputError
from local.cli import arguments
from local.cli.arguments import (
    non_negative_seconds,
    parse_merged_classes,
    parse_threshold,
    positive_int,
)


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("0.4", 0.4),
        ("Dog=0.6", {"Dog": 0.6}),
        ("Speech=0.4, door opens/closes=.25", {"Speech": 0.4, "door opens/closes": 0.25}),
        (
            "Accelerating, revving, vroom=0.3,Dog=0.4, Fire engine, fire truck (siren) = 1e-1",
            {
                "Accelerating, revving, vroom": 0.3,
                "Dog": 0.4,
                "Fire engine, fire truck (siren)": 0.1,
            },
        ),
    ],
)
def test_one_or_one_a_class(text, threshold):
    assert parse_threshold(text) == threshold


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("high", "'high' is not a number"),
        ("Dog=", "'' is not a number"),
        ("Dog=0.4,0.5", "'' is not a number"),
        ("Dog=0.4,", "'' is not a number"),
        ("Dog=0.4,Dog=0.5", "names 'Dog' twice"),
        ("", "'' is not a number"),
    ],
)
def test_anything_else_is_told(text, reason):
    with pytest.raises(InputError, match=f"--threshold {text}: {reason}"):
        parse_threshold(text)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (positive_int, "abc", "abc: give a whole number above 0"),
        (positive_int, "1.5", "1.5: give a whole number above 0"),
        (positive_int, "-2", "-2 is not above 0"),
        (non_negative_seconds, "soon", "soon is not a number of seconds"),
        (non_negative_seconds, "inf", "inf is not a number of seconds"),
        (non_negative_seconds, "nan", "nan is not a number of seconds"),
    ],
)
def test_what_is_no_such_number_is_named(kind, text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{re.escape(message)}$"):
        kind(text)


@pytest.mark.parametrize("value", ["all", "-1", "1,2", "", "²"])
def test_a_gpu_that_is_no_number_is_refused_while_parsing(value, capsys):
    parser = argparse.ArgumentParser()
    arguments.add_gpus(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--gpus={value}"])
    assert f"argument --gpus/--gpu: {value}: give 0 for the CPU, N" in capsys.readouterr().err
    assert parser.parse_args(["--gpu", "2"]).gpus == "2"


@pytest.mark.parametrize(
    "flags", [["--gpus", "{}"], ["--set={}", "{}"], ["--{}"], ["--seed", "{}"]]
)
def test_refused_arguments_are_shown_without_passwords(flags, capsys):
    parser = arguments.command_parser("")
    arguments.add_gpus(parser)
    arguments.add_overrides(parser)
    parser.add_argument("--seed", type=positive_int)
    with pytest.raises(SystemExit):
        parser.parse_args(
            [one.format("https://me:S3cret@h/x?token=S3cret\x1b[2J") for one in flags]
        )
    told = capsys.readouterr().err
    assert "S3cret" not in told and "\x1b" not in told
    assert "https://me:***@h/x?token=***" in told


def test_all_folders_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    arguments.check_folders(["a", tmp_path / "a"], "")
    with pytest.raises(InputError) as error:
        arguments.check_folders(["a", "b", tmp_path / "c"], "give runs")
    assert str(error.value) == (
        f"b: no such folder (looked up from {tmp_path}); give runs\n"
        f"{tmp_path / 'c'}: no such folder; give runs"
    )


def test_help_calls_commands_as_they_were_started(monkeypatch):
    text = "Doc.\n\n    python predict.py a.wav\n\nSee train_pretrained.py."
    monkeypatch.delenv("DESED_CONSOLE_COMMAND", raising=False)
    assert arguments.command_parser(text).description == text
    monkeypatch.setenv("DESED_CONSOLE_COMMAND", "desed-predict")
    parser = arguments.command_parser(text)
    assert parser.description == "Doc.\n\n    desed-predict a.wav\n\nSee desed-train."
    assert parser.format_usage().startswith("usage: desed-predict ")


def test_classes_of_ones_own_may_have_signs_in_their_names():
    assert parse_threshold("a=b=.3,x, y=0.4,c=1=.5") == {"a=b": 0.3, "x, y": 0.4, "c=1": 0.5}
    assert parse_merged_classes(["m=a=b+dog"]) == {"m": ("a=b", "dog")}
    # A class that is a sign itself would be lost without a word.
    with pytest.raises(InputError, match=r"'dog\+\+' has a \+ too many; .*predict.merged_classes"):
        parse_merged_classes(["m=dog++"])
