"""Commands in messages are those that help where the user is."""

from argparse import Namespace

import pytest

from desed_task.errors import InputError
from local.cli.exit_status import run_command
from local.cli.remedies import remedies_of

EXTRACT = "embeddings/beats/weak.hdf5: no such embeddings file; run extract_embeddings.py"
PREPARE = "a.tsv: no such table; prepare the data with generate_dcase_task4_2024.py"


@pytest.fixture
def conf(tmp_path):
    path = tmp_path / "my conf.yaml"
    path.write_text("data:\n  weak_folder: /scratch/mini/dcase/dataset/audio/weak\n")
    return path


def completed(text, **args):
    return remedies_of(Namespace(**args))(text)


def test_without_a_configuration_messages_stay(conf):
    for args in ({}, {"conf_file": None}, {"conf_file": "./confs/pretrained.yaml"}):
        assert completed(EXTRACT, **args) == EXTRACT
        assert completed(PREPARE, **args) == PREPARE


def test_embeddings_are_extracted_with_the_same_configuration(conf):
    told = completed(f"{EXTRACT} --eval_set", conf_file=str(conf))
    assert told == f"{EXTRACT} --conf_file '{conf}' --eval_set"
    assert completed(EXTRACT, conf_file="confs/own.yaml") == f"{EXTRACT} --conf_file confs/own.yaml"


def test_values_that_change_paths_are_repeated():
    overrides = ["net.dropout=0.3", "pretrained.extracted_embeddings_dir=/a b", "data.fs=16000"]
    told = completed(EXTRACT, overrides=overrides, conf_file=None)
    assert told == (
        f"{EXTRACT} --set 'pretrained.extracted_embeddings_dir=/a b' --set data.fs=16000"
    )


@pytest.mark.parametrize("name", ["mini.yaml", "./confs/mini.yaml", "mini"])
def test_on_the_mini_corpus_data_is_made(name):
    assert completed(PREPARE, conf_file=name) == f"{PREPARE} --mini"


def test_a_copy_of_the_mini_configuration_is_known_by_its_paths(conf):
    assert completed(PREPARE, conf_file=str(conf)) == f"{PREPARE} --mini"
    conf.write_text("data:\n  weak_folder: /scratch/dcase/dataset/audio/weak\n")
    assert completed(PREPARE, conf_file=str(conf)) == PREPARE


def test_console_commands_are_completed_too():
    text = "no such embeddings file; run desed-extract"
    assert completed(text, conf_file="mini") == f"{text} --conf_file mini"


@pytest.mark.parametrize(
    "text",
    [
        "x.hdf5: no source; extract_embeddings.py did not write this file: move it away",
        "12 damaged (details: generate_dcase_task4_2024.py --check)",
        "make it with generate_dcase_task4_2024.py --mini",
        "run extract_embeddings.py --conf_file confs/mini.yaml",
        "get weights with python /x/generate_dcase_task4_2024.py --only_encoders m2d, or give",
    ],
)
def test_what_is_no_remedy_or_is_complete_stays(text):
    assert completed(text, conf_file="confs/mini.yaml") == text


def test_errors_and_warnings_of_a_command_are_completed(capsys):
    def command(args):
        import warnings

        print(warnings.formatwarning(EXTRACT, UserWarning, "", 0), end="")
        raise InputError(PREPARE)

    assert run_command(command, Namespace(conf_file="confs/mini.yaml")) == 2
    out, err = capsys.readouterr()
    assert out == f"warning: {EXTRACT} --conf_file confs/mini.yaml\n"
    assert err == f"error: {PREPARE} --mini\n"
