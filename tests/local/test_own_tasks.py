"""Small tasks of one's own from data to results, without embeddings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from desed_task.errors import InputError
from local import run
from local.config import RecipeConfig, check_config, load_config
from local.data.datamodule import SedDataModule
from local.training.announcements import licence_lines
from tests.published_task import TASK

CONF = Path(__file__).resolve().parents[2] / "confs" / "mini.yaml"
RATE = 16000
# A slash, quotes, mathematics, a picture, and a name of 200 characters.
CLASSES = ("door opens/closes", 'say "hello" $x_1$', "🐕", "x" * 200)
DIVIDED = {"validation": 0.34, "test": 0.33}


def write_set(root: Path, name: str, classes: Sequence[str], kind: str, n_clips: int = 12) -> None:
    """Clips of noise with a tone per class, of several lengths, and their table."""
    rng, folder = np.random.default_rng(3), root / name
    folder.mkdir()
    rows = ["filename\tevent_labels" if kind == "weak" else "filename\tonset\toffset\tevent_label"]
    for number in range(n_clips):
        length_s, label = (2.0, 1.3, 4.2)[number % 3], number % len(classes)
        wave = 0.01 * rng.standard_normal(int(length_s * RATE))
        time_s = np.arange(int(0.3 * RATE), int(1.2 * RATE)) / RATE
        wave[int(0.3 * RATE) : int(1.2 * RATE)] += 0.3 * np.sin(6.28 * 300 * (label + 1) * time_s)
        sf.write(folder / f"c{number:02d} ü.wav", wave, RATE, subtype="FLOAT")
        times = "" if kind == "weak" else "0.3\t1.2\t"
        rows.append(f"c{number:02d} ü.wav\t{times}{classes[label]}")
    (root / f"{name}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    write_set(folder, "strong", CLASSES, "strong")
    write_set(folder, "weak", CLASSES, "weak")
    return folder


def corpus(name: str, **more: Any) -> dict[str, Any]:
    return {"audio": name, "table": f"{name}.tsv", "rows": 3, "split": DIVIDED, **more}


def config_of(root: Path, scored: Any, corpora: dict[str, Any], **task: Any) -> RecipeConfig:
    """Two seconds as the network's input, one epoch, and no weights of an encoder anywhere."""
    tree = load_config(CONF).dump()
    tree["task"] = {
        "root": str(root),
        "classes": list(CLASSES),
        "corpora": corpora,
        "scored": scored,
        **task,
    }
    tree["training"].update(batch_size=None, batch_size_val=4, n_epochs=1, validation_interval=1)
    tree["training"].update(n_epochs_warmup=1, epoch_decay=1, num_workers=0, mixup="hard")
    tree["net"] = {k: v for k, v in tree["net"].items() if k not in ("nclass", "median_filter")}
    tree["net"].update(nb_filters=[4, 4, 4, 8], n_RNN_cell=8, use_embeddings=False)
    tree["data"].update(audio_max_len=2, packed_dir=None)
    tree["predict"]["hop_s"], tree["energy"]["enabled"] = 1.024, False
    for key in ("beats_checkpoint", "extracted_embeddings_dir"):
        tree["pretrained"][key] = str(root / "nothing here")
    return check_config(tree, "the test")


def everything(root: Path, **more: Any) -> RecipeConfig:
    scored = {kind: {"validation": "strong", "test": "strong"} for kind in ("events", "segments")}
    scored["tags"] = {"validation": "weak", "test": "weak"}
    corpora = {
        "strong": corpus("strong", licence="CC0, gefunden im Schnee ☃"),
        "weak": corpus("weak", labels="weak", licence="CC0, gefunden im Schnee ☃"),
    }
    return config_of(root, scored, {**corpora, **more})


@pytest.fixture(scope="module")
def finished(root: Path) -> Path:
    return run.fit(everything(root), run.RunOptions(str(root / "exp")))


def test_a_task_with_odd_names_and_without_embeddings_gives_results(finished):
    content = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    values = content["per_class"]["test/student/tag_map/desed_task"]
    assert tuple(values) == CLASSES
    assert content["clips"] == {"strong": 4, "weak": 4}
    assert set(content["scored_on"]) == {"strong", "weak"}
    assert content["scored_on"]["weak"]["n_events"] == 4
    assert content["scoring"]["classes"] == list(CLASSES)
    # Long clips were scored in windows.
    assert content["scoring"]["hop_s"] == 1.024
    for name in ("tags.txt", "tags_weak.npz", "scores_strong.npz", "segment_decisions.txt"):
        assert (finished / "metrics_test" / "teacher" / name).is_file(), name
    assert not (finished / "metrics_test" / "teacher" / "scores_weak.npz").exists()
    assert (finished / "metrics_test" / "student" / "timeline.png").is_file()
    assert (finished / "error_report" / "index.html").is_file()
    table = (finished / "metrics_test" / "per_class.tsv").read_text(encoding="utf-8")
    assert all(line.count("\t") == 2 for line in table.splitlines())


def test_a_test_of_its_checkpoint_gives_the_same(root, finished, capsys):
    (best,) = finished.glob("checkpoints/epoch=*.ckpt")
    again = run.test(everything(root), str(best), run.RunOptions(str(root / "again")))
    one, other = (json.loads((f / "results.json").read_text()) for f in (finished, again))
    assert one == other
    printed = capsys.readouterr().out
    assert printed.count("licence: CC0, gefunden im Schnee ☃\n") == 1
    assert "tag_lwlrap/desed_task" in printed


def test_evaluation_sets_whose_tables_would_be_one_are_refused(root, finished):
    (best,) = finished.glob("checkpoints/epoch=*.ckpt")
    options = run.RunOptions(str(root / "evaluated"))
    with pytest.raises(InputError, match="no corpus of the task has split: evaluation"):
        run.evaluate(everything(root), str(best), options)
    sets = {
        name: {"audio": folder, "labels": "none", "split": "evaluation"}
        for name, folder in (("one", "strong"), ("two", "weak"))
    }
    told = r"task.corpora.one.audio, task.corpora.two.audio: both have 12 clips of one name \(c00 ü"
    with pytest.raises(InputError, match=told):
        run.evaluate(everything(root, **sets), str(best), options)
    folder = run.evaluate(everything(root, one=sets["one"]), str(best), options)
    clips = json.loads((folder / "evaluation.json").read_text())["clips"]
    assert clips["c02 ü"] == pytest.approx(4.2)
    assert len(list(folder.glob("metrics_test/student_scores/postprocessed/*.tsv"))) == 12


def test_a_task_without_a_test_ends_with_its_best_checkpoint(root, capsys):
    """Tags alone, and nothing to mix; the labels are weak."""
    corpora = {"weak": corpus("weak", labels="weak", split={"validation": 0.5})}
    scored = {"tags": {"validation": "weak"}}
    config = config_of(root, scored, corpora, mixup_groups=[])
    folder = run.fit(config, run.RunOptions(str(root / "untested")))
    printed = capsys.readouterr().out
    assert f"run folder: {folder}\nno test: the task scores nothing in tests" in printed
    assert not (folder / "results.json").exists()
    (best,) = folder.glob("checkpoints/epoch=*.ckpt")
    with pytest.raises(InputError, match="cannot be tested: the task scores nothing in tests"):
        run.test(config, str(best), run.RunOptions(str(root / "untested")))
    options = run.RunOptions(str(root / "untested"), verify_metrics=True)
    with pytest.raises(InputError, match="--verify_metrics: the task scores nothing in tests"):
        run.fit(config, options)


def problems_of(config: RecipeConfig) -> str:
    found = SedDataModule(config).problems("fit")
    return "\n".join(problem for problems in found.values() for problem in problems)


def test_what_cannot_be_scored_is_told_before_anything_is_computed(root):
    both = {"validation": "strong", "test": "strong"}
    corpora = {"strong": corpus("strong"), "weak": corpus("weak", labels="weak")}
    classes = [*CLASSES, "nowhere"]
    for kind, name in (("events", "strong"), ("tags", "strong"), ("tags", "weak")):
        scored = {kind: {"classes": ["nowhere"], "validation": name}}
        told = problems_of(config_of(root, scored, corpora, classes=classes))
        assert f"{name}.tsv: none of the scored classes (" in told and "nowhere" in told, (
            kind,
            name,
        )
    # One class which never pauses: a clip of one second, all of it an event.
    folder = root / "full"
    folder.mkdir()
    sf.write(folder / "a.wav", np.ones(RATE) / 2, RATE, subtype="FLOAT")
    (root / "full.tsv").write_text("filename\tonset\toffset\tevent_label\na.wav\t0\t1\t🐕\n")
    corpora["full"] = corpus("full", rows=0, split="validation")
    scored = {"segments": {"validation": "full"}, "events": both}
    areas = config_of(root, scored, corpora, objective={"segments": "mpauc"})
    assert "task.objective.segments: mpauc cannot be computed" in problems_of(areas)
    assert problems_of(config_of(root, scored, corpora, objective={"segments": "fmo"})) == ""
    tagged = config_of(root, {"tags": both}, corpora)
    with pytest.raises(InputError, match="scores neither events nor segments of this task's test"):
        run.fit(tagged, run.RunOptions(str(root / "x"), verify_metrics=True))


def test_the_licence_of_a_published_corpus_is_told():
    (line,) = licence_lines(TASK.needed_by("fit"))
    assert line.startswith("licence: MAESTRO real") and "commercial" in line
