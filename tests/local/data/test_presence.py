"""One message where there is no data at all."""

from pathlib import Path

import pytest

from local.config import SHIPPED, load_config
from local.data.presence import is_mini, nothing_there
from tests.in_process import run_main

MINI, REAL = (load_config(SHIPPED / name) for name in ("mini.yaml", "pretrained.yaml"))


def told_of(config):
    return nothing_there(config.detection_task.needed_by("fit"), config)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    (tmp_path / "Ordner x" / "y").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "Ordner x" / "y")


def test_the_mini_corpus_is_made_where_its_configuration_is_used():
    assert is_mini(MINI.detection_task.corpora) and not is_mini(REAL.detection_task.corpora)
    assert told_of(MINI) == (
        f"no data in data/mini/dcase/dataset (looked up from {Path.cwd()}): none of the 8 corpora "
        "is there; make it with generate_dcase_task4_2024.py --mini"
    )


def test_the_real_data_is_prepared_or_the_mini_corpus_used():
    told = told_of(REAL)
    assert "prepare it with generate_dcase_task4_2024.py, or try the mini corpus: " in told
    assert told.endswith("generate_dcase_task4_2024.py --mini, then --conf_file confs/mini.yaml")
    Path("data/mini").mkdir(parents=True)
    assert told_of(REAL).endswith(
        "or use the mini corpus in data/mini with --conf_file confs/mini.yaml"
    )


def test_paths_need_have_nothing_in_common():
    config = load_config(SHIPPED / "mini.yaml", ["data.weak_folder=/somewhere/else"])
    assert told_of(config).startswith("no data in data/mini/dcase/dataset/audio/maestro")


@pytest.mark.parametrize("there", ["weak_folder", "weak_tsv", "unlabeled_folder"])
def test_a_single_table_or_file_is_data_whose_faults_are_named(there):
    path = Path(getattr(MINI.data, there))
    path.parent.mkdir(parents=True)
    if there.endswith("folder"):
        path.mkdir()
        assert told_of(MINI) is not None  # An empty folder is nothing.
        (path / "x.wav").touch()
    else:
        path.touch()
    assert told_of(MINI) is None


def test_a_single_set_is_named_by_its_path():
    assert nothing_there(MINI.detection_task.evaluated, MINI) is None


@pytest.mark.parametrize(
    "command",
    [
        ("train_pretrained.py",),
        ("train_pretrained.py", "--fast_dev_run"),
        ("extract_embeddings.py",),
        ("optuna_pretrained.py", "--space", "space.yaml"),
    ],
)
def test_commands_say_it_in_one_line(command):
    space = "{training: {net.dropout: {kind: categorical, choices: [0.1]}}}"
    Path("space.yaml").write_text(f"optuna: {space}")
    done = run_main(*command, "--conf_file", "mini", cwd=Path.cwd())
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "none of the 8 corpora is there; make it with " in line and line.endswith(" --mini")


def test_without_any_embeddings_one_message_is_given(extracted, tmp_path):
    override = f"pretrained.extracted_embeddings_dir={tmp_path / 'none'}"
    told = ("--conf_file", extracted, "--set", override, "--log_dir", tmp_path / "exp")
    done = run_main("train_pretrained.py", *told, cwd=extracted.parent)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "embeddings" in line]
    assert len(lines) == 1, done.stderr
    assert f"{tmp_path / 'none' / 'beats'}: contains no embeddings of any set; run " in lines[0]
    # The command in it is the one that helps here.
    assert f"extract_embeddings.py --conf_file {extracted} --set {override}" in lines[0]
