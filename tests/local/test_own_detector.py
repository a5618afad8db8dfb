"""A detector of one's own classes: tested, summarised, tuned and used, all from one training.

The classes are odd on purpose; events, segments, training and test are of one corpus of odd
lengths that is divided.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml

from desed_task.checkpoints.safe_load import load_safely
from desed_task.errors import InputError
from desed_task.inference.detector import SoundEventDetector
from local import run
from local.checkpoints.restore import config_of_checkpoint
from local.checkpoints.stored_config import config_with_checkpoint
from local.config import check_config, load_config
from local.schema.published_keys import TASK_KEYS
from local.submission.submitted_runs import find_run
from local.summary.report import format_summary
from local.summary.stored_errors import report_stored_errors
from local.summary.summarize import summarize_folders, write_summary
from local.tuning.decoders.stage import DecoderTuning, tune_decoder
from local.tuning.median_stage import tune_medians
from local.tuning.search_space import Space
from local.tuning.storage import default_url
from local.tuning.training_stage import TuningPlan

pytestmark = pytest.mark.usefixtures("undrawn", "few_resamples")

MINI = Path(__file__).resolve().parents[2] / "confs" / "mini.yaml"
CPU = torch.device("cpu")
CLASSES = ("Glocke, laut/„hell“", "🎺 it's=so.", "x" * 200)
N_CLIPS = 18
SMALL = {"nb_filters": [4, 4, 4, 8], "n_RNN_cell": 8, "use_embeddings": False}


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A folder of recordings, and a configuration that trains on it: töne.yaml."""
    root = tmp_path_factory.mktemp("eigene Töne")
    draws, rows = np.random.default_rng(0), ["filename\tonset\toffset\tevent_label"]
    (root / "wav").mkdir()
    for clip in range(N_CLIPS):
        length_s = (3.7, 10.0, 12.3)[clip % 3]
        signal = draws.normal(0, 0.01, int(16000 * length_s)).astype(np.float32)
        for number, label in enumerate(CLASSES[: 1 + clip % 3] if clip % 6 else ()):
            onset_s = float(draws.uniform(0, length_s - 1.5))
            span = slice(int(16000 * onset_s), int(16000 * (onset_s + 1.2)))
            tone = np.sin(np.arange(span.stop - span.start) * (0.1, 0.5, 1.2)[number])
            signal[span] += 0.3 * tone.astype(np.float32)
            rows.append(f"{clip:02d}.wav\t{onset_s:.3f}\t{onset_s + 1.2:.3f}\t{label}")
        if not clip % 6:
            rows.append(f"{clip:02d}.wav\t\t\t")
        sf.write(root / "wav" / f"{clip:02d}.wav", signal, 16000, subtype="FLOAT")
    (root / "labels.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    corpus = {
        "title": "meine Töne",
        "audio": "wav",
        "table": "labels.tsv",
        "rows": 4,
        "split": {"by": "clip", "validation": 0.35, "test": 0.35},
    }
    both = {"validation": "töne", "test": "töne"}
    tree = yaml.safe_load(MINI.read_text())
    tree["task"] = {
        "name": "töne",
        "root": str(root),
        "classes": list(CLASSES),
        "corpora": {"töne": corpus},
        "scored": {"events": both, "segments": both, "tags": both},
    }
    for dotted in TASK_KEYS:
        section, _, key = dotted.partition(".")
        tree[section].pop(key, None)
    tree["training"].update(batch_size=None, n_epochs=1, n_epochs_warmup=1, epoch_decay=1)
    tree["training"].update(validation_interval=1, num_workers=0)
    tree["energy"] = {"enabled": False}
    for key in ("nclass", "embedding_size"):
        tree["net"].pop(key, None)
    tree["net"].update(SMALL, median_filter={CLASSES[1]: 3})
    tree["predict"] = {"threshold": {CLASSES[0]: 0.4}}
    path = root / "töne.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tested(own) -> Path:
    """The run folder of one epoch and its test."""
    return run.fit(load_config(own), run.RunOptions(str(own.parent / "exp")))


@pytest.fixture(scope="module")
def checkpoint(tested) -> Path:
    (path,) = (tested / "checkpoints").glob("epoch=*.ckpt")
    return path


def test_without_a_configuration_the_task_is_the_checkpoints(checkpoint, tmp_path, capsys):
    config = config_with_checkpoint(str(checkpoint), [], "test")
    assert (config.detection_task.name, config.detection_task.classes) == ("töne", CLASSES)
    assert "configuration: that of " in capsys.readouterr().out
    again = run.test(config, str(checkpoint), run.RunOptions(str(tmp_path)))
    of_first, of_second = (
        json.loads((folder / "results.json").read_text())
        for folder in (checkpoint.parents[1], again)
    )
    assert of_second["metrics"] == of_first["metrics"]
    assert set(of_second["clips"]) == {"töne"}
    # Another name for the same description, and a value of it.
    changed = config_with_checkpoint(str(checkpoint), ["task.corpora.töne.rows=2"])
    assert changed.task["corpora"]["töne"]["rows"] == 2


def test_weights_alone_are_of_the_classes_of_the_configuration(own, checkpoint, tmp_path):
    bare = tmp_path / "weights.ckpt"
    torch.save(torch.load(checkpoint, weights_only=True)["state_dict"], bare)
    with pytest.warns(UserWarning, match="contains weights only"):
        found = config_of_checkpoint(load_safely(bare), load_config(own), (), str(bare))
    assert found.detection_task.classes == CLASSES and found.net.nclass == 3


def test_another_task_is_refused_with_its_classes(checkpoint):
    with pytest.raises(InputError) as refused:
        run.test(load_config(MINI), str(checkpoint), run.RunOptions("unused"))
    text = str(refused.value)
    assert "has 3 classes, the task dcase2024 has 27: it alone has 3 classes (Glocke" in text
    assert "leave the flag out, which means the checkpoint's own" in text
    order = load_config(MINI).dump()
    order |= {"task": {**config_with_checkpoint(str(checkpoint), []).task}}
    order["task"]["classes"] = [*reversed(CLASSES)]
    order["training"]["batch_size"] = None
    order["net"] |= {"nclass": 3, "median_filter": [7] * 3}
    with pytest.raises(InputError, match="has the classes of the task töne in another order"):
        run.test(check_config(order, "x"), str(checkpoint), run.RunOptions("unused"))


def test_runs_are_summarised_with_intervals_of_clips(tested, tmp_path):
    found = summarize_folders([str(tested)], [], config=None, n_resamples=100, seed=1)
    units = {(part.kind, part.corpus.name): n for part, n in found.resampled.n_units.items()}
    n_clips = json.loads((tested / "results.json").read_text())["clips"]["töne"]
    assert units == {("events", "töne"): n_clips, ("segments", "töne"): n_clips}
    text = format_summary(found)
    assert "## Main metrics" in text and "published" not in text.partition("## All")[0]
    assert f"{n_clips} clips of meine Töne" in text and "by recording" not in text
    assert "Published figures" not in text and CLASSES[0] in text
    assert found.intervals["A"]["test/teacher/psds1/sed_scores_eval"].low >= 0
    write_summary(found, tmp_path)
    content = json.loads((tmp_path / "summary.json").read_text())
    assert content["bootstrap"]["units"] == {"töne, events": n_clips, "töne, segments": n_clips}
    assert (tmp_path / "classes.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_with_tags_alone_is_summarised(tested, tmp_path):
    folder = tmp_path / "version_0"
    folder.mkdir()
    tree = yaml.safe_load((tested / "config.yaml").read_text(encoding="utf-8"))
    tree["task"]["scored"] = {"tags": tree["task"]["scored"]["tags"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    content = json.loads((tested / "results.json").read_text())
    for key in ("metrics", "per_class"):
        content[key] = {name: one for name, one in content[key].items() if "/tag_" in name}
    (folder / "results.json").write_text(json.dumps(content))
    found = summarize_folders([str(folder)], [], config=None, n_resamples=100, seed=1)
    text = format_summary(found)
    assert "| macro F1 of tags | mean AP of tags |" in " ".join(text.split())
    assert "No intervals of tags of meine Töne: there are none of tags." in text
    write_summary(found, tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["published"] == {}
    assert (tmp_path / "classes.png").is_file() and (tmp_path / "metrics.png").is_file()


def test_the_errors_of_stored_scores_are_reported(tested):
    (page,) = report_stored_errors([str(tested)], None, "student")
    assert "meine Töne" in page.read_text(encoding="utf-8")


def plan_of(own: Path, folder: Path, stage: str, decoder: str = "median") -> TuningPlan:
    config = load_config(own)
    lines = {
        "net.median_filter.*": {"kind": "int", "low": 1, "high": 9, "step": 4},
        f"decoder.threshold.{CLASSES[1]}": {"kind": "float", "low": 0.2, "high": 0.8, "step": 0.3},
    }
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({"optuna": {"postprocessing": lines}}), encoding="utf-8")
    space = Space.load(path, "postprocessing", decoder, config.detection_task)
    return TuningPlan(config, space, folder, default_url(folder), stage, 2)


def test_median_filters_are_tuned_for_events_and_segments(own, checkpoint, tmp_path, capsys):
    plan = plan_of(own, tmp_path, "medians")
    assert [one.path.split(".", 2)[2] for one in plan.space.dimensions] == [*CLASSES]
    best = tune_medians(plan, checkpoint, (), swept=True, device=CPU)
    tuned = load_config(best)
    assert tuned.detection_task.classes == CLASSES and len(tuned.net.median_filter) == 3
    told = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in told if line.startswith(("before", "after"))]
    assert [len(row) for row in rows] == [7, 7] and float(rows[1][3]) >= float(rows[0][3])
    assert (tmp_path / "report_medians" / "medians.png").is_file()
    # Again, from the scores and the study of that time.
    again = [tune_medians(plan, checkpoint, (), swept=False, device=CPU) for _ in range(2)][-1]
    assert load_config(again).tuned.checkpoint_sha256 == tuned.tuned.checkpoint_sha256


def test_a_decoder_thresholds_and_calibration_of_ones_own_classes(own, checkpoint, tmp_path):
    plan = plan_of(own, tmp_path, "boxes", "threshold_boxes")
    medians = plan_of(own, tmp_path, "boxes").space
    asked = DecoderTuning(
        "threshold_boxes",
        medians,
        swept=True,
        threshold_metric="intersection",
        n_folds=2,
        n_resamples=0,
        calibration="temperature",
    )
    best = load_config(tune_decoder(plan, checkpoint, (), asked, CPU))
    assert {*best.predict.threshold} == {*CLASSES}
    content = json.loads((tmp_path / "report_threshold_boxes" / "comparison.json").read_text())
    assert content["set"] == "töne" and {row["tuned"] for row in content["rows"]} >= {"oracle"}
    detector = SoundEventDetector.from_checkpoint(checkpoint)
    assert detector.labels == CLASSES


def test_a_threshold_of_ones_own_class_is_that_of_the_configuration(own, checkpoint):
    assert load_config(own).predict.threshold == {CLASSES[0]: 0.4}
    with pytest.raises(InputError, match=r"predict.threshold: names unknown classes: Glokce"):
        load_config(own, ["predict.threshold={Glokce: 0.4}"])
    detector = SoundEventDetector.from_checkpoint(checkpoint, classes=f"{CLASSES[2]},{CLASSES[0]}")
    assert set(detector.labels) == {CLASSES[0], CLASSES[2]}


def test_the_challenge_takes_its_own_classes_only(own, tested, monkeypatch, tmp_path):
    record = {"stage": "predict", "checkpoint": {"path": str(tested / "checkpoints/x.ckpt")}}
    record["checkpoint"]["sha256"] = "0" * 64
    record["seed"] = 42
    tests = {**record, "stage": "test"}
    folder = tmp_path / "version_0"
    folder.mkdir()
    (folder / "run.yaml").write_text(yaml.safe_dump([{**tests, "stage": "fit"}, tests, record]))
    (folder / "config.yaml").write_text(yaml.safe_dump(load_config(own).dump()))
    (folder / "results.json").write_text("{}")
    (folder / "evaluation.json").write_text("{}")
    with pytest.raises(InputError, match=r"of the task töne \(3 classes\); the challenge takes"):
        find_run(folder, [])
