"""predict.py with detectors of AudioSet's classes, and with several detectors."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from desed_task.atomic_files import sha256_of
from desed_task.audioset.classes import class_map, strong_classes
from desed_task.encoders.random_weights import write_random_encoder
from desed_task.labels import CLASSES
from local.predict.result_names import ENDINGS
from tests.desed_task.audioset.small_detectors import saved_detector
from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec
from tests.in_process import run_main

ALL = strong_classes()
VROOM = "Accelerating, revving, vroom"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, a checkpoint of ours, and a released detector."""
    folder = tmp_path_factory.mktemp("Straße")
    for number, name in enumerate(("a.wav", "é b.wav")):
        noise = 0.1 * np.random.default_rng(number).normal(size=(int(12.3 * 22050), 2))
        sf.write(folder / name, noise, 22050)
    saved(ours(small_spec(use_embeddings=False)), folder / "own.ckpt")
    (folder / "pretrained_models").mkdir()
    saved_detector(folder).rename(folder / "pretrained_models/ATST-F_strong_1.pt")
    return folder


def predict(folder: Path, out: Path, *arguments: str, recordings=("a.wav",)):
    flags = ("--output_dir", out, "--gpus", "0", *arguments)
    return run_main("predict.py", *recordings, *flags, cwd=folder)


def test_every_format_has_the_classes_of_audioset(folder, tmp_path):
    done = predict(
        *(folder, tmp_path, "--checkpoint", "atst_frame_strong", "--formats", ",".join(ENDINGS)),
        *("--threshold", f"{VROOM}=0.2,Dog=0.3", "--min_duration", f"{VROOM}=0.05"),
        *("--merge_classes", f"Krach={VROOM}+Beep, bleep"),
    )
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()
    first = next(n for n, row in enumerate(rows) if row.startswith("class "))
    content = json.loads((tmp_path / "a.json").read_text("utf-8"))
    counts = Counter(event["label"] for event in content["events"])
    n_others = sum(count for _, count in counts.most_common()[60:])
    assert rows[first + 61] == (
        f"... and {len(counts) - 60} more classes with {n_others} events, which the tables have"
    )
    path = folder / "pretrained_models/ATST-F_strong_1.pt"
    assert content["checkpoint"] == "pretrained_models/ATST-F_strong_1.pt"
    assert content["sha256"] == sha256_of(path) and "model" not in content
    assert content["detector"] == "ATST-Frame, 447 classes of AudioSet"
    limits = {**dict.fromkeys(ALL, 0.5), VROOM: 0.2, "Dog": 0.3}
    assert content["thresholds"] == limits
    labels = {event["label"] for event in content["events"]}
    assert "Krach" in labels and labels - {"Krach"} <= {*ALL}
    table = [line.split("\t") for line in (tmp_path / "a.tsv").read_text("utf-8").splitlines()]
    assert [row[3] for row in table[1:]] == [event["label"] for event in content["events"]]
    for line in (tmp_path / "a.rttm").read_text("utf-8").splitlines():
        assert len(line.split(" ")) == 10
    labels_of = (tmp_path / "a.txt").read_text("utf-8").splitlines()
    named = [line.split("\t")[2].rpartition(" ")[0] for line in labels_of]
    assert named == [row[3] for row in table[1:]]
    assert (tmp_path / "a.scores.tsv").read_text("utf-8").splitlines()[0].split("\t")[2:] == [*ALL]
    arrays = np.load(tmp_path / "a.npz")
    assert arrays["event_labels"].tolist() == [*ALL] and arrays["unprocessed"].shape == (308, 447)
    page = (tmp_path / "a.html").read_text("utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page).group(1))
    shown = {label for label in ALL if arrays["postprocessed"][:, ALL.index(label)].max() > 0.25}
    assert shown | labels - {"Krach"} <= {*data["labels"]} and len(data["labels"]) < 447
    assert dict(data["facts"])["classes"].startswith(f"{len(data['labels'])} shown; ")


@pytest.mark.parametrize("first", [True, False])
def test_weights_without_a_head_for_events_are_told(folder, tmp_path, first):
    """The command says what they are, wherever they stand and whatever reads them first."""
    weights = tmp_path / "ssl.pt"
    write_random_encoder(weights, "m2d", seed=1, width=64)
    names = (weights, "own.ckpt") if first else ("own.ckpt", weights)
    flags = [word for name in names for word in ("--checkpoint", str(name))]
    done = predict(folder, tmp_path / "out", *flags)
    assert done.returncode == 2
    assert "ssl.pt: holds weights of M2D without a head, not a detector" in done.stderr
    assert "--only_encoders m2d_strong" in done.stderr


@pytest.mark.parametrize("first", ["own.ckpt", "atst_frame"])
def test_several_detectors_are_averaged(folder, tmp_path, first):
    (second,) = {"own.ckpt", "atst_frame"} - {first}
    done = predict(
        *(folder, tmp_path, "--checkpoint", first, "--checkpoint", second, "--classes", "desed"),
        *("--formats", "tsv,json,npz,html", "--threshold", "0.1"),
        recordings=("a.wav", "é b.wav"),
    )
    assert done.returncode == 0, done.stderr
    assert "scores of 2 detectors are averaged; all of them have 10 of 10 classes" in done.stdout
    content = json.loads((tmp_path / "é b.json").read_text("utf-8"))
    found = {one["checkpoint"]: one for one in content["checkpoints"]}
    assert found["own.ckpt"]["model"] == "student"
    assert all(one["sha256"] == sha256_of(folder / path) for path, one in found.items())
    assert content["classes"] == "desed" and "checkpoint" not in content
    assert [*content["thresholds"]] == [*CLASSES[:10]]
    scores = []
    for name in ("own.ckpt", "atst_frame"):
        out = tmp_path / name
        assert predict(folder, out, "--checkpoint", name, "--formats", "npz").returncode == 0
        scores.append(np.load(out / "a.npz")["unprocessed"].astype(float))
    index = [[ALL.index(part) for part in parts] for parts in class_map("desed").values()]
    mapped = np.stack([scores[1][:, group].max(axis=1) for group in index], axis=1)
    expected = (scores[0][: len(mapped), :10] + mapped) / 2
    np.testing.assert_allclose(np.load(tmp_path / "a.npz")["unprocessed"], expected, atol=1e-6)


def test_values_of_the_configuration_for_other_classes_are_no_fault(folder, tmp_path):
    sets = ("--set", "predict.threshold={Dog: 0.2, Speech: 0.3}", "--set")
    sets = (*sets, "predict.merged_classes={Tiere: [Dog, Cat], Haus: [Blender]}")
    done = predict(
        *(folder, tmp_path, "--checkpoint", "own.ckpt", "--classes", "Cat,Speech", *sets),
        *("--formats", "json"),
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert content["thresholds"] == {"Cat": 0.5, "Speech": 0.3}
    assert content["merged_classes"] == {"Tiere": ["Cat"]}
    done = predict(
        *(folder, tmp_path, "--checkpoint", "own.ckpt", "--classes", "Cat", "--threshold"),
        *("Dog=0.2", "--overwrite"),
    )
    assert done.returncode == 2 and "unknown label 'Dog'; known: Cat" in done.stderr


def test_parts_of_an_archive_notice_other_detectors(folder, tmp_path):
    flags = ("--formats", "tsv", "--shard")
    both = ("a.wav", "é b.wav")
    one = predict(folder, tmp_path, "--checkpoint", "own.ckpt", *flags, "1/2", recordings=both)
    two = ("--checkpoint", "own.ckpt", "--checkpoint", "atst_frame")
    assert one.returncode == 0
    done = predict(folder, tmp_path, *two, *flags, "2/2", recordings=both)
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stderr.split())
    assert "shard 2/2 was computed with another checkpoint" in told


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("train_pretrained.py", ("--test_from_checkpoint",)),
        ("train_pretrained.py", ("--init_from_checkpoint",)),
        ("train_pretrained.py", ("--resume_from_checkpoint",)),
        ("train_pretrained.py", ("--checkpoint_info",)),
        ("optuna_pretrained.py", ("--test_from_checkpoint",)),
    ],
)
def test_other_commands_refuse_such_a_file(folder, tmp_path, script, flags):
    path = folder / "pretrained_models/ATST-F_strong_1.pt"
    done = run_main(script, *flags, path, "--log_dir", tmp_path / "exp", cwd=folder)
    assert done.returncode == 2
    assert "a detector of AudioSet's classes, which only predict.py takes" in done.stderr
