"""Mini trees: the layouts of the real corpora, whole files, the same for the same seed."""

import csv
import io
from pathlib import Path

import pytest
import soundfile as sf
import yaml

from desed_task.audio.files import probe
from desed_task.audioset.classes import strong_classes
from desed_task.errors import InputError
from local.prep.mini_corpus.sounds import SOUNDS
from local.prep.mini_trees.make import MARKER, MINI_TREES, make_mini_tree
from local.task.reading import DEFAULT_TASK, TASKS, supplied_tasks

SEED = 42
RATE = 44100
# Tree -> patterns of its audio and of its tables, as the archives unpack.
LAYOUTS = {
    "maestro_real": (
        "development_audio/*/*.wav",
        "development_annotation/soft_labels_*/*.txt",
    ),
    "urban_sed": ("audio/{train,validate,test}/*.wav", "annotations/{train,validate,test}/*.txt"),
    "tut2017": ("audio/street/*.wav", "meta/street/*.ann"),
    "real_desed": (
        "{train,validation,test}/audio/*.wav",
        "{train,validation,test}/annotations_raw.csv",
    ),
    "audioset_strong": ("audio/{train,eval}/*.wav", "audioset_{train,eval}_strong.tsv"),
    "fsd50k": ("FSD50K.{dev,eval}_audio/*.wav", "FSD50K.ground_truth/{dev,eval}.csv"),
}


def expanded(pattern: str) -> list[str]:
    """A pattern without braces for each of the words in them."""
    before, brace, rest = pattern.partition("{")
    words, _, after = rest.partition("}")
    return [f"{before}{word}{after}" for word in words.split(",")] if brace else [pattern]


def rows(text: str, delimiter: str = "\t") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text), delimiter=delimiter))


def classes_of(task: str) -> set[str]:
    classes = yaml.safe_load((TASKS / f"{task}.yaml").read_text())["task"]["classes"]
    return set(classes)


@pytest.fixture(scope="module")
def trees():
    return {task: make(SEED) for task, make in MINI_TREES.items()}


def test_each_supplied_task_but_that_of_the_mini_corpus_has_a_tree():
    assert {*MINI_TREES} == {*supplied_tasks()} - {DEFAULT_TASK}


@pytest.mark.parametrize("task", MINI_TREES)
def test_a_seed_gives_the_same_plan_and_another_one_other_sounds(task, trees):
    assert MINI_TREES[task](SEED) == trees[task]
    other = MINI_TREES[task](SEED + 1)
    assert [one.plan for one in other.clips] != [one.plan for one in trees[task].clips]
    assert len(trees[task].clips) <= 30
    assert all(event.label in SOUNDS for one in trees[task].clips for event in one.plan.events)


@pytest.mark.parametrize("task", LAYOUTS)
def test_files_lie_where_those_of_the_real_corpus_do(task, trees):
    tree = trees[task]
    for pattern, paths in zip(
        LAYOUTS[task], ([c.path for c in tree.clips], tree.texts), strict=True
    ):
        found = [[path for path in paths if Path(path).match(one)] for one in expanded(pattern)]
        assert all(found), pattern
        if pattern.endswith(".wav"):
            assert sum(map(len, found)) == len(paths)


def test_every_class_of_a_small_task_is_in_every_part(trees):
    """Of those that are synthesised."""
    texts = trees["urban_sed"].texts
    for split in ("train", "validate", "test"):
        labels = {
            label
            for path, text in texts.items()
            if path.startswith(f"annotations/{split}/") and path.endswith(".txt")
            for _, _, label in rows(text)
        }
        assert labels == classes_of("urban_sed"), split
    annotated = rows(trees["real_desed"].texts["train/annotations.csv"], ",")[1:]
    assert {row[3] for row in annotated} == classes_of("real_desed")
    lines = [
        row for path, text in trees["tut2017"].texts.items() if ".ann" in path for row in rows(text)
    ]
    assert {row[4] for row in lines} == classes_of("tut2017")


def test_quirks_of_the_real_tables_are_there(trees):
    meta = trees["tut2017"].texts["meta/street/a001.ann"]
    assert {len(row) for row in rows(meta)} == {5}
    values = [
        float(row[3]) for path, text in trees["maestro_real"].texts.items() for row in rows(text)
    ]
    assert max(values) > 1 and min(values) > 0
    raw = rows(trees["real_desed"].texts["validation/annotations_raw.csv"], ",")
    status = raw[0].index("review_status")
    assert {row[status] for row in raw[1:]} == {"accepted", "unreviewed", "rejected"}
    by_clip: dict[str, set[str]] = {}
    for row in raw[1:]:
        by_clip.setdefault(row[0], set()).add(row[raw[0].index("annotator_id")])
    assert {len(annotators) for annotators in by_clip.values()} == {3}
    dev = trees["fsd50k"].texts["FSD50K.ground_truth/dev.csv"]
    assert '"' in dev and {len(row) for row in rows(dev, ",")} == {4}
    strong = rows(trees["audioset_strong"].texts["audioset_train_strong.tsv"])
    names = dict(rows(trees["audioset_strong"].texts["mid_to_display_name.tsv"]))
    labels = {names[row[3]] for row in strong[1:]}
    assert labels - set(strong_classes()) == {"Silence"}
    assert all(row[0].startswith("-") for row in strong[1:])
    assert "annotations/test/soundscape_test_bimodal0.jams" in trees["urban_sed"].texts


def test_each_fold_of_the_streets_tests_others(trees):
    texts = trees["tut2017"].texts
    tested = []
    for fold in (1, 2, 3, 4):
        name = f"evaluation_setup/street_fold{fold}"
        test = {row[0] for row in rows(texts[f"{name}_test.txt"])}
        train = {row[0] for row in rows(texts[f"{name}_train.txt"])}
        assert not test & train and len(test | train) == 6
        tested += test
    assert sorted(tested) == sorted(clip.path for clip in trees["tut2017"].clips)


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("Straßen") / "mini tut"
    return make_mini_tree("tut2017", folder, jobs=1, progress=False)


def test_audio_has_the_real_format_and_its_copy_that_of_the_network(streets):
    for path in sorted(streets.parent.glob("audio/street/*.wav")):
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 2, "PCM_24")
        copy = streets.parent / "audio_16k" / "street" / path.name
        assert probe(copy).sample_rate == 16000
        assert probe(copy).duration_s == pytest.approx(info.duration, abs=1e-4)


def test_a_second_run_changes_nothing_and_completes_what_is_absent(streets):
    folder = streets.parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    removed = folder / "audio" / "street" / "a003.wav"
    content = removed.read_bytes()
    streets.write_text(streets.read_text() + "# mine\n")
    removed.unlink()
    assert make_mini_tree("tut2017", folder, jobs=1, progress=False) == streets
    assert removed.read_bytes() == content
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    changed = {path.name for path in before if after[path] != before[path]}
    records = {".audio_16k.sources.json", ".written.jsonl"}
    assert changed - records <= {"a003.wav", streets.name}
    assert streets.read_text().endswith("# mine\n") and {*after} == {*before}


@pytest.mark.parametrize("content", ["", "{}", '{"version": 1, "seed": 1, "task": "tut2017"}'])
def test_the_folder_of_something_else_is_left_alone(tmp_path, content):
    (tmp_path / MARKER).write_text(content)
    with pytest.raises(InputError, match=r"contains another mini tree; remove it, or give"):
        make_mini_tree("tut2017", tmp_path, progress=False)
    (tmp_path / MARKER).rename(tmp_path / "mine.txt")
    with pytest.raises(InputError, match=r"contains something else; give another --basedir"):
        make_mini_tree("tut2017", tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_unknown_trees_are_named(tmp_path):
    with pytest.raises(InputError, match=r"--task dcase2024: has no mini tree; known: desed2023, "):
        make_mini_tree("dcase2024", tmp_path / "x", progress=False)
    assert not (tmp_path / "x").exists()
