"""Lists of words and arguments without a flag, in any order."""

import argparse
from pathlib import Path

import pytest

import make_submission
import predict
import summarize_runs
from local.cli.word_lists import ListOption, parse_in_any_order

WORDS = ("tsv", "json", "png")


def parse(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument("recordings", nargs="*", type=Path)
    formats = parser.add_argument(
        "--formats", action=ListOption, choices=WORDS, default=["tsv", "json"]
    )
    parser.add_argument("--checkpoint")
    args = parse_in_any_order(parser, words, "recordings", Path, [formats])
    return args.formats, [path.as_posix() for path in args.recordings]


@pytest.mark.parametrize(
    ("words", "formats", "recordings"),
    [
        ("x.wav", ["tsv", "json"], ["x.wav"]),
        ("--formats png x.wav", ["png"], ["x.wav"]),
        ("--formats png json x.wav y.wav", ["png", "json"], ["x.wav", "y.wav"]),
        ("--formats png,json x.wav", ["png", "json"], ["x.wav"]),
        ("--formats png, json x.wav", ["png", "json"], ["x.wav"]),
        ("--formats png ,json x.wav", ["png", "json"], ["x.wav"]),
        ("--formats=png json x.wav", ["png", "json"], ["x.wav"]),
        ("--form png x.wav", ["png"], ["x.wav"]),
        ("x.wav --formats png y.wav", ["png"], ["x.wav", "y.wav"]),
        ("x.wav --checkpoint c y.wav --formats png", ["png"], ["x.wav", "y.wav"]),
        ("--formats png --checkpoint c json", ["png"], ["json"]),
        ("--formats png --formats json png x.wav", ["png", "json"], ["x.wav"]),
        ("--formats png recordings/ a.b", ["png"], ["recordings", "a.b"]),
        ("--formats png -- json -x.wav", ["png"], ["json", "-x.wav"]),
        ("x.wav -- y.wav", ["tsv", "json"], ["x.wav", "y.wav"]),
        ("--formats png ./json", ["png"], ["json"]),
    ],
)
def test_a_list_ends_where_its_words_do(words, formats, recordings):
    assert parse(*words.split()) == (formats, recordings)


def test_a_folder_is_no_word_of_the_list(tmp_path, monkeypatch):
    (tmp_path / "rec").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse("--formats", "png", "rec") == (["png"], ["rec"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--formats mp4 x.wav", "--formats: invalid choice: 'mp4' (choose from 'tsv', 'json'"),
        ("--formats png,mp4", "invalid choice: 'mp4'"),
        ("--formats png jsno x.wav", "invalid choice: 'jsno'"),
        ("--formats x.wav", "invalid choice: 'x.wav'"),
        ("--formats ,", "invalid choice: ','"),
        ("x.wav --formats", "expected one argument"),
        ("--format --checkpoint c", "expected one argument"),
        ("x.wav --fromats png", "unrecognized arguments: --fromats"),
    ],
)
def test_a_mistyped_word_is_not_taken_for_a_file(words, told, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(*words.split())
    assert ended.value.code == 2 and told in capsys.readouterr().err


def test_the_default_is_not_changed():
    assert parse("--formats", "png", "x.wav")[0] == ["png"]
    assert parse("x.wav")[0] == ["tsv", "json"]


@pytest.mark.parametrize("place", range(4))
def test_predict_takes_recordings_in_any_place(place):
    words = [["--formats", "tsv"], ["--checkpoint", "c"], ["--skip_existing"]]
    words.insert(place, ["x.wav"])
    args = predict.parse_args([word for group in words for word in group])
    assert (args.recordings, args.formats) == ([Path("x.wav")], ["tsv"])


@pytest.mark.parametrize(
    ("script", "words", "told"),
    [
        (summarize_runs, "--against a b c", "--against takes all folders up to the next flag"),
        (summarize_runs, "--resamples 0", "give run folders, before the flags"),
        (make_submission, "--also a b", "--also takes all folders up to the next flag"),
    ],
)
def test_a_list_of_folders_that_takes_all_is_named(script, words, told, capsys):
    with pytest.raises(SystemExit):
        script.parse_args(words.split())
    assert told in capsys.readouterr().err


def test_run_folders_may_stand_between_flags():
    args = summarize_runs.parse_args(
        ["--seed", "3", "a", "--against", "c", "d", "--resamples", "0", "b"]
    )
    assert (args.runs, args.against) == (["a", "b"], ["c", "d"])
    args = make_submission.parse_args(["a", "--model", "teacher", "b", "--also", "c"])
    assert (args.runs, args.also) == ([Path("a"), Path("b")], [Path("c")])
