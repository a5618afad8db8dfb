"""docs/own_data.md: its commands are followed word by word, its tables name every key."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from local.config import load_config
from local.schema.task import (
    CorpusDescription,
    SplitDescription,
    TableDescription,
    TaskDescription,
)
from local.task.class_names import LONGEST_CLASS
from local.task.score_parts import FIGURES
from tests.in_process import run_main
from tests.markdown_pages import DOCS, SPAN

pytestmark = pytest.mark.usefixtures("undrawn")

PAGE = DOCS["own_data"]
SITTING = "In one sitting"
# A training of the page takes minutes.
SHORT = (
    *("--set", "training.n_epochs=2", "--set", "training.n_epochs_warmup=1"),
    *("--set", "training.epoch_decay=1", "--set", "training.validation_interval=1"),
    *("--set", "energy.enabled=false"),
)


def commands(section: str) -> list[list[str]]:
    return [one.words for one in PAGE.commands() if one.section == section]


def first_cells(section: str, head: str) -> list[str]:
    table = next(t for t in PAGE.tables() if t.section == section and t.head[0] == head)
    return [span for row in table.rows for span in SPAN.findall(row[0])]


def test_the_page_is_followed_word_by_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = {}
    for python, script, *arguments in commands(SITTING):
        assert python == "python"
        more = SHORT if script == "train_pretrained.py" else ()
        done = run_main(script, *arguments, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        told[f"{script} {arguments[-1]}"] = done.stdout
    recordings = Path("data/mini_own/recordings")
    assert len(list(recordings.glob("*.wav"))) == len(list(recordings.glob("*.txt"))) == 30
    described = told[f"generate_dcase_task4_2024.py {recordings}"]
    assert "3 classes: 'bell', 'dog', 'vacuum cleaner'" in described
    assert "label tracks of Audacity, one file per recording" in described
    # The commands that it prints are those of the page, but for the recording.
    names = {"predict.py new_recording.wav": f"predict.py {recordings.parent}/new_recording.wav"}
    printed = re.findall(r"^  python \S*?(\w+\.py .*)$", described, re.M)
    printed = [next((line.replace(a, b) for a, b in names.items()), line) for line in printed]
    assert [" ".join(words[1:]) for words in commands(SITTING)[2:]] == printed
    report = json.loads(Path("data_report.json").read_text())
    assert not report["training_would_fail"]
    assert report["parts"]["clips"]["listed"] == report["parts"]["clips"]["present"] == 30
    for name in re.findall(r"`((?:predictions|exp)/\S+?)`", PAGE.text):
        assert Path(name).is_file(), name
    assert not load_config("recordings.yaml").net.use_embeddings


@pytest.mark.parametrize(
    ("model", "section", "head", "prefix"),
    [
        (TaskDescription, "The description", "key", "task."),
        (CorpusDescription, "The description", "key", ""),
        (TableDescription, "Labels", "key", ""),
        (SplitDescription, "Training, validation and test", "key", ""),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_key_is_explained(model: type[BaseModel], section, head, prefix):
    tables = [t for t in PAGE.tables() if t.section == section and t.head[0] == head]
    keys = {f"{prefix}{name}" for name in model.model_fields}
    assert any({SPAN.findall(row[0])[0] for row in table.rows} == keys for table in tables), (
        keys,
        [[row[0] for row in table.rows] for table in tables],
    )


def test_defaults_are_those_of_the_schema():
    for table in PAGE.tables():
        if table.head[:2] == ("key", "default"):
            for row in table.rows:
                key = SPAN.findall(row[0])[0].removeprefix("task.")
                models = (TaskDescription, CorpusDescription, TableDescription, SplitDescription)
                fields = [m.model_fields[key] for m in models if key in m.model_fields]
                values = {str(field.default).lower() for field in fields}
                told = row[1].strip("`")
                if told and told not in ("its name", "all"):
                    assert told in values or f"{told}.0" in values, (key, told, values)


def test_kinds_of_scores_and_their_figures():
    table = next(t for t in PAGE.tables() if t.section == "What is scored")
    told = {SPAN.findall(row[0])[0]: tuple(SPAN.findall(row[3])) for row in table.rows}
    assert told == FIGURES
    assert f"up to {LONGEST_CLASS} characters" in PAGE.text


def test_rules_of_annotators():
    rules = CorpusDescription.model_fields["annotators"].annotation
    assert set(first_cells("Several annotators", "rule")) == {
        value for inner in rules.__args__ for value in getattr(inner, "__args__", ())
    }
