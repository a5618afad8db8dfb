"""What is wrong with a description is told before anything is computed; what is odd is taken."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from desed_task.errors import InputError
from local.config import RecipeConfig, check_config, load_config
from local.task.class_names import ClassNames
from local.task.reading import default_description, supplied_tasks

ROOT = Path(__file__).resolve().parents[3]
MINI = ROOT / "confs" / "mini.yaml"
TASK: dict[str, Any] = {
    "name": "mine",
    "classes": ["Dog", "Cat", "Bell"],
    "corpora": {
        "clips": {
            "audio": "audio",
            "table": "labels.tsv",
            "rows": 4,
            "split": {"validation": 0.2, "test": 0.2},
        },
        "more": {"audio": "more", "table": "more.tsv", "labels": "weak"},
        "street": {
            "audio": "street",
            "table": "street.tsv",
            "labels": "soft",
            "split": "test",
            "cut_from_recordings": True,
        },
    },
    "scored": {"events": {"validation": "clips", "test": "clips"}},
}


def loaded(tmp_path: Path, *overrides: str, **changes: Any) -> RecipeConfig:
    """The configuration of `TASK` with changed keys of the description."""
    tree = {"task": {**copy.deepcopy(TASK), **changes}}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return load_config(path, overrides)


def refusal(tmp_path: Path, *overrides: str, **changes: Any) -> str:
    with pytest.raises(InputError) as error:
        loaded(tmp_path, *overrides, **changes)
    return str(error.value)


def test_aliases_are_known_to_the_corpus(tmp_path):
    corpora = copy.deepcopy(TASK["corpora"])
    corpora["clips"] |= {"known": ["Dog", "Cat"], "aliases": {"Dog": "Bell"}}
    message = refusal(tmp_path, corpora=corpora)
    assert f"{CORPUS}.aliases: 'Bell' is not in the corpus's `known`; add it there, or" in message


def test_a_description_alone_is_a_configuration(tmp_path):
    config = loaded(tmp_path)
    task = config.detection_task
    assert config.net.nclass == 3 and config.net.median_filter == (7, 7, 7)
    assert [(part.title, part.rows) for part in task.batch] == [("clips", 4)]
    assert [corpus.name for corpus in task.unused] == ["more", "street"]
    assert task.untrained_classes == ()
    assert check_config(config.dump(), "dump") == config


CORPUS = "task.corpora.clips"
REFUSED = {
    # splits
    f"{CORPUS}.split=trian": f"{CORPUS}.split: give train, validation, test or evaluation, or",
    f"{CORPUS}.split.tset=0.1": f"{CORPUS}.split: tset: unknown key (value 0.1); did you mean test",
    f"{CORPUS}.split.test=0.9": f"{CORPUS}.split: the shares add up to 1.1; give at most 1",
    f"{CORPUS}.split.train=0.1": f"{CORPUS}.split: the shares add up to 0.5; give shares that add",
    f"{CORPUS}.split.folds=3": f"{CORPUS}.split: give folds, or shares of training and test",
    f"{CORPUS}.split=train": "scored.events.validation: no clip of clips is for the validation: "
    "its split is train",
    f"{CORPUS}.split=test": f"{CORPUS}.rows: clips would be trained on, but its split is test",
    f"{CORPUS}.drawn_with=[street]": f"{CORPUS}.drawn_with: street would be trained on, but",
    "task.scored.events.classes=[]": "task.scored.events.classes: names no class; name some, or",
    f"{CORPUS}.aliases.Dog=Dog": f"{CORPUS}.aliases: 'Dog' is itself; remove it",
    f"{CORPUS}.drawn_with=[clips]": f"{CORPUS}.drawn_with: names clips again; leave it out",
    f"{CORPUS}.drawn_with=[x]": f"{CORPUS}.drawn_with: unknown corpus 'x'; known: clips, more",
    "task.fold=2": "task.fold: is 2, but no corpus has folds and no path {fold}; leave it out",
    # labels
    f"{CORPUS}.labels=none": f"{CORPUS}: labels: none does not go with a table; remove one",
    f"{CORPUS}.table=null": f"{CORPUS}: labels: strong needs a table; name it, or set labels: none",
    "task.corpora.more.annotators=mean": "more.annotators: needs strong or soft labels",
    f"{CORPUS}.annotators=median": f"{CORPUS}.annotators: Input should be 'mean', 'weighted', ",
    f"{CORPUS}.table.columns.labl=x": f"{CORPUS}.table.columns: labl: unknown column; known: filen",
    f"{CORPUS}.table.columns.label=-1": "label: give a column's name, or its number from 0 on, not",
    f"{CORPUS}.label_map={{d: Dgo}}": f"{CORPUS}.label_map.d: unknown class 'Dgo'; known: Dog, Cat",
    f"{CORPUS}.label_map={{1: Dog}}": f"{CORPUS}.label_map: 1: 1: not text; YAML reads numbers",
    f"{CORPUS}.aliases={{Dog: Animal}}": f"{CORPUS}.aliases: unknown class 'Animal'; known: Dog",
    f"{CORPUS}.recordings.pattern=abc": "recordings.pattern: has no group; put brackets around",
    f"{CORPUS}.recordings.pattern=(": "recordings.pattern: is not a regular expression: missing )",
    # classes
    "task.classes=[]": "task.classes: names no class; give at least one",
    "task.classes=Dog": "task.classes: give a list of labels, e.g. [Dog, Cat] (value 'Dog')",
    "task.classes=[Dog, no]": "task.classes: False: not text; YAML reads numbers, yes, no, on",
    "task.classes=[Dog, Cat, Dog]": "task.classes: given twice: 'Dog'",
    "task.classes=[Dog, dog]": "task.classes: 'Dog' and 'dog' differ only in case, blanks or Unic",
    "task.classes=[run_ning, run ning]": "differ only in case, blanks or Unicode form; keep one",
    "task.classes=[' Dog']": "task.classes: ' Dog' is empty, begins or ends with a blank",
    'task.classes=["a\\tb"]': "task.classes: 'a\\tb' is empty, begins or ends with a blank",
    f"task.classes=[{'x' * 201}]": "has 201 characters; give at most 200, and map the tables'",
    "task.classes=[onset]": "task.classes: 'onset' is the name of a column of tables of scores",
    "task.classes={a: [Dog], Dog: [Cat]}": "task.classes: 'Dog' is a group and a class; rename",
    f"{CORPUS}.known=[]": f"{CORPUS}.known: names no class; name some, or leave it out",
    f"{CORPUS}.known=Dgo": f"{CORPUS}.known: unknown class 'Dgo'; known: Dog, Cat, Bell",
    # scores
    "task.scored.events.validation=null": "task.scored: no kind has a corpus for the validation",
    "task.scored.events.validation=x": "scored.events.validation: unknown corpus 'x'; known: clips",
    "task.scored.events.test=more": "scored.events.test: more has only weak labels, which",
    "task.scored.segments.test=street": "the segments of street are scored by recording (cut_from_"
    "recordings), which needs the durations of the recordings; give task.corpora.street.durations",
    "task.scored.evnts.test=clips": "task.scored.evnts.[key]: Input should be 'events', 'segments'",
    "task.scored.events.classes=Dgo": "scored.events.classes: unknown class 'Dgo'; known: Dog, Cat",
    "task.objective.events=psds3": "task.objective.events: unknown figure 'psds3'; known: inters",
    "task.objective.tags=f1": "task.objective.tags: no validation scores tags; remove it, or name",
    # batches
    f"{CORPUS}.rows=0": "no corpus with labels has rows in a training batch; give one `rows`",
    "training.batch_size=8,3": "training.batch_size: has 2 numbers; give one for each of 1 corpus",
    "task.mixup_groups=[[clips],[clips]]": "task.mixup_groups: in two groups: clips",
    # names and paths
    "task.corpora.more.embeddings=clips": "corpora.more.embeddings: 'clips' is also that of clips,",
    "task.corpora.more.title=clips": "corpora.more.title: 'clips' is also that of clips; give",
    "task.corpora.more.embeddings=a/b": "embeddings: 'a/b': files are named after it, so",
    f"{CORPUS}.audio=''": f"{CORPUS}.audio: is empty; give the folder of the audio",
    f"{CORPUS}.audio=${{data.weak_foldr}}": "${data.weak_foldr}: no such key of data or training;",
    f"{CORPUS}.audio=${{data.weak": f"{CORPUS}.audio: '${{data.weak': is not a complete reference",
    f"{CORPUS}.audio=${{data.weak_folder}}": "data.weak_folder: missing; give it a value",
    "net.nclass=4": "net.nclass: is 4; the task has 3 classes",
    "net.median_filter=[3, 5]": "net.median_filter: has 2 lengths; give one for each of 3",
    "net.median_filter={Dgo: 3}": "net.median_filter: names unknown classes: Dgo",
    "data.keep_clips_without_events=x": "'x' is no corpus with events; known: clips, street",
    "task.corpora.clip.rows=3": "--set task.corpora.clip.rows=3: no such corpus 'clip'; known: cl",
    "task.name.x=3": "--set task.name.x=3: task.name is not a section",
    "task=urban_sde": "task: urban_sde: no such file",
}


@pytest.mark.parametrize("override", REFUSED)
def test_faults_are_told_with_place_and_remedy(tmp_path, override):
    assert REFUSED[override] in refusal(tmp_path, override)


def test_all_faults_are_told_at_once(tmp_path):
    told = refusal(
        tmp_path,
        f"{CORPUS}.known=Dgo",
        "task.objective.events=x",
        "net.nclass=5",
        "net.dropout=lots",
        "decoder.threshold={Bird: 0.3}",
    )
    for text in ("known: unknown class 'Dgo'", "unknown figure 'x'", "net.nclass: is 5", "lots",
                 "decoder.threshold: names unknown classes: Bird"):  # fmt: skip
        assert text in told


def test_a_class_known_to_no_corpus_is_named(tmp_path):
    corpora = {name: {**one, "known": ["Dog", "Cat"]} for name, one in TASK["corpora"].items()}
    assert (
        "task.classes: known to no corpus with labels: 'Bell'; remove it, or add to the `known` of"
        in refusal(tmp_path, corpora=corpora)
    )
    corpora["more"]["known"] = ["Bell"]  # Not trained on, which the doctor tells.
    assert loaded(tmp_path, corpora=corpora).detection_task.untrained_classes == ("Bell",)


@pytest.mark.parametrize(
    "label",
    [
        *("door opens/closes", "a, b", 'say "hi"', "it's", "🐕", "👨\u200d👩\u200d👧", "ünïcödé"),
        *("x" * 200, "yes", "1", "- x: y #", "{a}", "${", "50 %"),
    ],
)
def test_names_of_classes_that_are_taken(tmp_path, label):
    if label == "${":
        assert "is not a complete reference" in refusal(tmp_path, classes=[label])
        return
    config = loaded(tmp_path, classes=[label])
    assert config.detection_task.classes == (label,)
    assert check_config(config.dump(), "dump") == config
    assert loaded(tmp_path, classes=["Dog", label]).net.nclass == 2


@pytest.mark.parametrize("label", ["a\u202eb", "a\u200bb", "a\u2028b", "", "\xa0a", "a\x7f"])
def test_names_that_no_one_sees(label):
    assert "control character" in ClassNames(["Dog", label]).problems()[0]


def test_groups_of_classes(tmp_path):
    config = loaded(
        tmp_path,
        "task.corpora.clips.known=[indoor, Bell]",
        "task.scored.events.classes=indoor",
        "net.median_filter={Cat: 9}",
        classes={"indoor": ["Dog", "Cat"], "street": ["Bell"]},
    )
    task = config.detection_task
    assert task.classes == task.corpus("clips").known == ("Dog", "Cat", "Bell")
    assert task.test[0].classes == ("Dog", "Cat")
    assert config.net.median_filter == (7, 9, 7)


@pytest.mark.parametrize(
    ("name", "text", "keys"),
    [
        ("classes.csv", '0,"a, b",x\n1,c,y\n', {"column": 1}),
        ("classes.tsv", "label\tn\na, b\t1\nc\t2\n", {"header": True}),
        ("classes.txt", "a, b\nc\n\n", {}),
    ],
)
def test_classes_of_a_file_below_the_root(tmp_path, name, text, keys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).write_text(text)
    given = {"file": name, **keys}
    task = loaded(tmp_path, f"task.root={tmp_path / 'x'}", classes=given).detection_task
    assert task.classes == ("a, b", "c")
    assert task.corpus("clips").folder == str(tmp_path / "x" / "audio")
    for other, message in (
        ({**given, "column": 7}, "without column 7; give the number of the column"),
        ({**given, "file": "no"}, "no: no such file"),
        ({**given, "named": "audioset_strong"}, "give `file` or `named`"),
    ):
        assert message in refusal(tmp_path, f"task.root={tmp_path / 'x'}", classes=other)
    assert len(loaded(tmp_path, classes={"named": "audioset_strong"}).detection_task.classes) == 447


# ---- --set, and other tasks


def test_set_reaches_into_the_description_of_the_published_task():
    config = load_config(MINI, ["task.corpora.weak_train.rows=0"])
    task = config.detection_task
    assert [part.rows for part in task.batch] == [8, 5, 6, 2]  # Those of the file, but for weak.
    assert [part.kind for part in task.validation] == ["events", "tags", "segments"]
    whole = load_config(MINI, ["task.root=/mnt/x"]).detection_task
    assert whole.corpus("devtest").folder.startswith("/mnt/x/data/mini/")
    with pytest.raises(InputError, match=r"task\.objective\.tags: no validation scores tags"):
        load_config(MINI, ["task.corpora.weak_train=null", "task.scored.tags=null"])


def test_the_published_task_by_its_name_is_the_same_configuration():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = load_config(MINI, ["task=dcase2024"])
    assert named == load_config(MINI) and named.task == {}
    tree = named.dump()
    del tree["task"]  # As of earlier versions.
    assert check_config(tree, "an old run") == named
    del tree["training"]["batch_size"]
    assert check_config(tree, "an old run").training.batch_size == (12, 6, 6, 12, 24)


def test_another_task_leaves_out_what_a_file_says_of_its_classes(tmp_path):
    loaded(tmp_path)
    with pytest.warns(UserWarning, match=r"net\.nclass, net\.median_filter, training\.batch_size"):
        config = load_config(MINI, [f"task={tmp_path / 'own.yaml'}"])
    assert config.net.nclass == 3 and config.training.batch_size is None
    assert config.net.n_RNN_cell == load_config(MINI).net.n_RNN_cell
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_config(
            tmp_path / "own.yaml",
            [f"task={yaml.safe_dump(TASK, default_flow_style=True, width=10**6).strip()}"],
        )


def test_published_keys_that_a_task_does_not_read_are_told(tmp_path):
    loaded(tmp_path)
    path = tmp_path / "own.yaml"
    path.write_text(f"{path.read_text()}data:\n  weak_tsv: x.tsv\n")
    with pytest.warns(UserWarning, match=r"the task does not read data\.weak_tsv; delete it"):
        load_config(path)


def test_a_task_that_set_chooses_leaves_nothing_of_the_other_one(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"task": TASK}))
    with pytest.warns(UserWarning, match="are for another task than the one that --set names"):
        config = load_config(MINI, [f"task={path}"])
    assert config.data.weak_tsv == config.data.test_folder == ""
    stored = tmp_path / "config.yaml"
    stored.write_text(yaml.safe_dump(config.dump()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_config(stored) == config
    with pytest.warns(UserWarning, match=r"the task does not read data\.weak_tsv; delete it"):
        load_config(MINI, [f"task={path}", "data.weak_tsv=x.tsv"])


@pytest.mark.parametrize("net", [None, {}, {"dropout": 0.3}])
def test_median_filters_of_the_published_task_are_not_guessed(tmp_path, net):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(MINI.read_text("utf-8")), "net": net}))
    with pytest.raises(InputError, match=r"net\.median_filter: missing; give one length"):
        load_config(path)


def test_descriptions_name_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded(tmp_path)
    for name, task in (("a", "own.yaml"), ("b", "a.yaml"), ("x", "y.yaml"), ("y", "x.yaml")):
        Path(f"{name}.yaml").write_text(f"task: {task}\n")
    assert load_config("b.yaml") == load_config("own.yaml")
    with pytest.raises(InputError, match=r"y\.yaml names x\.yaml names y\.yaml; give a descr"):
        load_config("x.yaml")
    Path("list.yaml").write_text("task: [1]\n")
    with pytest.raises(InputError, match=r"task: is \[1\]; give a description"):
        load_config("list.yaml")
    Path("bare.yaml").write_text(yaml.safe_dump(TASK))
    with pytest.raises(InputError, match=r"bare\.yaml: describes a task and is no configuration"):
        load_config("bare.yaml")
    assert load_config("mini", ["task=bare.yaml"]).detection_task.name == "mine"


def test_the_default_description_is_not_changed_by_overrides():
    before = copy.deepcopy(default_description())
    load_config(MINI, ["task.corpora.weak_train.rows=1", "task.root=/x"])
    assert default_description() == before
    assert "dcase2024" in supplied_tasks()


def test_a_task_is_that_of_the_values_that_it_is_asked_for_with():
    """Parts of the recipe ask again and again, so tasks of equal values are kept."""
    one, again = load_config(MINI), load_config(MINI)
    assert one.detection_task is again.detection_task
    for words in ("data.weak_folder=elsewhere", "training.batch_size=[1, 1, 1, 1, 1]"):
        assert load_config(MINI, [words]).detection_task != one.detection_task
    folder = load_config(MINI, ["data.weak_folder=elsewhere"]).detection_task
    assert "elsewhere" in {corpus.folder for corpus in folder.corpora}
    changed = one.training.model_copy(update={"batch_size": (2, 1, 1, 2, 1)})
    task = one.model_copy(update={"training": changed}).detection_task
    assert [part.rows for part in task.batch] == [2, 1, 1, 2, 1]
    assert load_config(MINI).detection_task is one.detection_task
