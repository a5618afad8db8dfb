"""Preparation of the corpora of a described task."""

import copy

import numpy as np
import pytest
import soundfile as sf

from desed_task.dataio.annotations import read_durations
from desed_task.errors import InputError
from local.config import check_config
from local.prep.own_task import prepare_task
from tests.in_process import run_main

SCRIPT = "generate_dcase_task4_2024.py"
DESCRIPTION = {
    "name": "doors",
    "classes": ["Tür", "bell/ring"],
    "corpora": {
        "train": {
            "title": "doors, training",
            "audio": "16k/train",
            "originals": "wav/train",
            "table": {
                "path": "labels/train/{clip}.txt",
                "header": False,
                "columns": {"onset": 0, "offset": 1, "label": 2},
            },
            "rows": 2,
            "licence": "Doors 1.0, example.org/doors: CC BY",
        },
        "val": {
            "audio": "16k/val",
            "originals": "wav/val",
            "durations": "val_durations.tsv",
            "table": "val.tsv",
            "split": "validation",
            "licence": "Doors 1.0, example.org/doors: CC BY",
        },
        "test": {"audio": "16k/test", "table": "test.tsv", "split": "test", "licence": "by Ann"},
    },
    "scored": {"events": {"validation": "val", "test": "test"}},
}


def write(path, rate=22050, duration_s=0.5, channels=1, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (round(duration_s * rate), channels))
    sf.write(path, samples, rate, subtype=subtype)


def config_of(root, **corpora):
    """The description below a folder, with corpora changed."""
    task = copy.deepcopy({**DESCRIPTION, "root": str(root)})
    for name, changes in corpora.items():
        task["corpora"][name] |= changes
    return check_config({"task": task, "data": {}, "net": {"median_filter": 7}}, "test")


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "Türen"
    write(root / "wav/train/ä b/1.wav", channels=2)
    write(root / "wav/train/2.wav", rate=48000, duration_s=21.0, subtype="PCM_24")
    write(root / "wav/val/v.wav", duration_s=0.7)
    write(root / "16k/test/t.wav", rate=16000)
    (root / "labels/train").mkdir(parents=True)
    for name in ("val.tsv", "test.tsv"):
        (root / name).write_text("filename\tonset\toffset\tevent_label\n")
    return root


def prepare(config, **settings):
    return prepare_task(config, jobs=1, progress=False, **settings)


def test_originals_are_resampled_whatever_their_length(root):
    outcome = prepare(config_of(root))
    counts = {step.title: (step.done, step.there) for step in outcome.steps}
    assert counts == {"doors, training": (2, 0), "val": (1, 0), "val: durations": (1, 0)}
    assert (outcome.failed, outcome.absent) == ((), ())
    made = {
        path.relative_to(root / "16k").as_posix(): sf.info(path)
        for path in (root / "16k").rglob("*.wav")
    }
    assert {*made} == {"train/ä b/1.wav", "train/2.wav", "val/v.wav", "test/t.wav"}
    assert {info.samplerate for info in made.values()} == {16000}
    assert (made["train/2.wav"].duration, made["train/ä b/1.wav"].channels) == (21.0, 2)
    assert read_durations(root / "val_durations.tsv") == {"v": 0.7}
    again = prepare(config_of(root))
    assert {step.done for step in again.steps} == {0}


def test_what_is_absent_is_named_with_its_licence(root):
    (root / "wav/val/v.wav").unlink()
    (root / "wav/val").rmdir()
    (root / "test.tsv").unlink()
    for path in (root / "labels/train", root / "labels"):
        path.rmdir()
    outcome = prepare(config_of(root))
    assert outcome.absent == (
        ("doors, training", f"{root}/labels/train/{{clip}}.txt"),
        ("val", f"{root}/wav/val"),
        ("val", f"{root}/val_durations.tsv"),
        ("test", f"{root}/test.tsv"),
    )
    told = outcome.summary().splitlines()
    place = told.index("Put it there.")
    assert told[place + 1 : place + 3] == [
        "doors, training, val: Doors 1.0, example.org/doors: CC BY",
        "test: by Ann",
    ]


def test_nothing_at_all_is_an_error_that_lists_the_places(tmp_path):
    with pytest.raises(InputError) as told:
        prepare(config_of(tmp_path / "none"))
    lines = str(told.value).splitlines()
    assert lines[0] == (
        "task doors: nothing of its corpora is on disk; put them there, or set task.root to the "
        "folder that has them:"
    )
    assert f"  - doors, training: {tmp_path}/none/wav/train" in lines
    assert f"  - test: {tmp_path}/none/16k/test" in lines
    assert "  - test: by Ann" in lines


def test_a_folder_that_two_corpora_divide_is_prepared_once(root):
    (root / "lists").mkdir()
    both = {"audio": "16k/train", "originals": "wav/train"}
    outcome = prepare(config_of(root, val={**both, "durations": None}))
    assert [step.title for step in outcome.steps] == ["doors, training"]


def test_a_corpus_that_nothing_uses_is_not_asked_for(root):
    task = config_of(root).dump()["task"]
    task["corpora"]["further"] = {"audio": "nowhere", "labels": "none"}
    config = check_config({"task": task, "net": {"median_filter": 7}, "data": {}}, "test")
    assert prepare(config).absent == ()


def test_files_of_the_user_are_not_replaced(root):
    prepare(config_of(root))
    mine = root / "16k/val/v.wav"
    write(mine, rate=16000, duration_s=0.3)
    before = mine.read_bytes()
    outcome = prepare(config_of(root))
    assert len(outcome.failed) == 1 and mine.read_bytes() == before
    assert not prepare(config_of(root), overwrite=True).failed
    assert mine.read_bytes() != before


def test_damaged_originals_are_named_and_the_others_prepared(root):
    (root / "wav/train/3.wav").write_bytes(b"RIFF")
    outcome = prepare(config_of(root))
    assert [path.name for path, _ in outcome.failed] == ["3.wav"]
    assert (root / "16k/train/2.wav").is_file()


@pytest.mark.parametrize("bits", [16, 32])
def test_the_script_prepares_the_task_of_a_configuration(root, bits):
    import yaml

    conf = root / "conf.yaml"
    conf.write_text(yaml.safe_dump({"task": DESCRIPTION}))
    arguments = ("--conf_file", conf, "--set", f"task.root={root}")
    done = run_main(SCRIPT, *arguments, "--bits", bits, "--offline", cwd=root)
    assert done.returncode == 0, done.stderr
    assert "doors, training" in done.stdout and "not on disk" not in done.stdout
    subtype = {16: "PCM_16", 32: "FLOAT"}[bits]
    assert sf.info(root / "16k/train/2.wav").subtype == subtype
    refused = run_main(SCRIPT, *arguments, "--basedir", root, "--only_eval", cwd=root)
    assert refused.returncode == 2
    assert (
        "--basedir, --only_eval: without meaning for the task doors, whose folders are those of "
        "its description and are not downloaded; leave them out" in refused.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--task", "urban_sed"), "--task urban_sed makes a mini tree, with --mini; the data of a"),
        (("--mini", "--set", "net.dropout=0"), "--mini takes no --set: what it makes has its own"),
        (("--mini", "--task", "fsd50k", "--plot"), "--plot draws clips of the mini corpus; leave"),
        (("--mini", "--task", "urban"), "--task urban: has no mini tree; known: desed2023, "),
    ],
)
def test_flags_that_exclude_each_other(tmp_path, arguments, told):
    done = run_main(SCRIPT, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and told in done.stderr
    assert not [*tmp_path.iterdir()]
