"""The form that the makers of a system fill in."""

from __future__ import annotations

import pytest
import yaml

from desed_task.errors import InputError
from local.config import load_config
from local.submission.metadata import describe_system
from local.submission.metadata_form import read_form, write_template
from tests.local.submission.callback_runs import ROOT


@pytest.fixture
def filled(tmp_path):
    """The template, filled in: a tree, and what writes it."""
    path = tmp_path / "meta.yaml"
    write_template(path)
    tree = yaml.safe_load(path.read_text())
    tree["submission"].update(label="Lovelace_A-EI_task4_2", name="Notes", abbreviation="N")
    (author,) = tree["submission"]["authors"]
    author.update(lastname="Lovelace", firstname="Ada", email="ada@example.org")
    author["affiliation"].update(abbreviation="AEI", institute="Engines", location="London")

    def write():
        path.write_text(yaml.safe_dump(tree))
        return path

    return tree, write


def test_the_filled_in_template_is_accepted(filled):
    tree, write = filled
    form = read_form(write())
    assert form.submission.label == "Lovelace_A-EI_task4_2"
    assert form.submission.authors[0].affiliation.department is None
    assert form.system.external_datasets[0].name.startswith("BEATs")
    assert form.system.source_code is None
    tree["system"] = {"description": None, "external_datasets": None}
    assert read_form(write()).system.external_datasets == ()
    tree["system"] = {"description": {"data_augmentation": ["noise", "pitch"]}}
    assert read_form(write()).system.description.data_augmentation == ("noise", "pitch")


def test_the_template_does_not_overwrite(tmp_path):
    path = tmp_path / "meta.yaml"
    write_template(path)
    with pytest.raises(InputError, match=r"meta.yaml: exists already; give another path"):
        write_template(path)
    with pytest.raises(InputError, match=r"no such metadata file; .*--write_metadata"):
        read_form(tmp_path / "other.yaml")


def put(path, value):
    def change(tree):
        *parts, last = path
        for part in parts:
            tree = tree[part]
        tree[last] = value

    return change


AUTHOR = ("submission", "authors", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(("submission", "label"), "Lovelace_task4_1"), "Name_Institute_task4_N, N from 1 to 4"),
        (put(("submission", "label"), "A_B_task4_5"), "Name_Institute_task4_N, N from 1 to 4"),
        (put(("submission", "label"), "../A_B_task4_1"), "Name_Institute_task4_N"),
        (put(("submission", "name"), "Our Baseline"), "submission.name: must not contain"),
        (put(("submission", "name"), "  "), "submission.name: not filled in"),
        (put(("submission", "name"), "No # 1"), "submission.name: contains a #"),
        (
            put(("submission", "abbreviation"), "x" * 11),
            "submission.abbreviation: .* 10 char",
        ),
        (
            put(("submission", "authors"), []),
            "submission.authors: exactly one author must have corresp",
        ),
        (
            put((*AUTHOR, "corresponding"), False),
            "submission.authors: exactly one author must have",
        ),
        (put((*AUTHOR, "email"), "ada"), "submission.authors.0.email: "),
        (put((*AUTHOR, "lastnam"), "L"), "authors.0.lastnam: unknown key .* did you mean lastname"),
        (put((*AUTHOR, "affiliation", "location"), None), "affiliation.location: not filled in"),
        (put(("submission", "authors"), None), "submission.authors: not filled in"),
        (put(("system", "sourcecode"), "x"), "system.sourcecode: unknown key .* source_code"),
        (put(("system", "external_datasets", 0, "url"), ""), "datasets.0.url: not filled in"),
        (lambda tree: tree.pop("submission"), "meta.yaml: submission: missing; give it a value"),
        (lambda tree: tree["submission"].pop("label"), "submission.label: missing"),
    ],
)
def test_mistakes_are_named_with_their_place(change, message, filled):
    tree, write = filled
    change(tree)
    with pytest.raises(InputError, match=message) as caught:
        read_form(write())
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", "- a", "{", "a: 1\na: 2"])
def test_a_file_that_is_no_form(text, tmp_path):
    path = tmp_path / "meta.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"meta.yaml: "):
        read_form(path)


def test_the_configuration_describes_the_published_system():
    told = describe_system(load_config(ROOT / "confs" / "pretrained.yaml"))
    assert told["data_augmentation"] == ["mixup (soft labels)", "time dropping"]
    assert (told["embeddings"], told["input_sampling_rate"]) == ("BEATs", 16)
    assert told["semi_supervised_learning"] == "mean teacher"
    masked = load_config(
        ROOT / "confs" / "mini.yaml", ["net.specaugm_t_p=0.5", "net.specaugm_f_p=0.5"]
    )
    assert describe_system(masked)["data_augmentation"] == ["time masking", "frequency masking"]


def test_the_ways_of_learning_without_labels_are_named():
    values = ("consistency=ict", "pseudo_labels=x", "mixup=null")
    more = ("losses.pseudo=1.5", "augment.mixup_prob=0.5")
    given = [*(f"training.{one}" for one in values), *more]
    told = describe_system(load_config(ROOT / "confs" / "pretrained.yaml", given))
    expected = "mean teacher, interpolation consistency, pseudo-labels"
    assert told["semi_supervised_learning"] == expected
