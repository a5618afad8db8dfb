"""Tests and evaluations of the mean of several checkpoints' scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml

from desed_task.atomic_files import sha256_of
from desed_task.errors import InputError
from desed_task.inference.detector import SoundEventDetector
from desed_task.mean_teacher import ROLES
from local import run
from local.config import RecipeConfig, check_config, load_config
from local.data.datamodule import SedDataModule
from local.scoring.accumulator import CollectedRow
from local.scoring.tested import ensemble_sha256
from local.stores.size import with_embedding_size
from local.training import result_writers
from local.training.ensemble.averaging import ScoreSums
from local.training.ensemble.members import EnsembleMember, check_members
from tests.in_process import run_main
from tests.local.test_own_tasks import CLASSES
from tests.local.training.ensemble.made_members import (
    config_of_member,
    extract,
    make_place,
    save_member,
)

pytestmark = pytest.mark.usefixtures("undrawn")

CONF = Path(run.__file__).parents[1] / "confs" / "mini.yaml"


class Place(NamedTuple):
    """Configurations and checkpoints of three networks: of ATST-Frame; of M2D, smaller, with the
    classes in another order; and without embeddings."""

    root: Path
    configs: tuple[RecipeConfig, ...]
    paths: tuple[str, ...]

    def save(self, name: str, **sections) -> str:
        """A further checkpoint without embeddings."""
        config = config_of_member(self.root, **sections)
        return str(save_member(config, self.root / f"{name}.ckpt", len(name)))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    root = tmp_path_factory.mktemp("Mittel ä")
    make_place(root)
    first = config_of_member(root, "atst_frame")
    extract(first, root, "strong", "weak", "eval")
    turned = {**first.dump()["task"], "classes": [*reversed(CLASSES)]}
    second = config_of_member(
        *(root, "m2d"),
        net={"nb_filters": [4, 4, 4, 6], "n_RNN_cell": 6, "dropout": 0.4},
        training={"batch_size_val": 3, "seed": 5},
        feats={"n_mels": 64},
        task=turned,
    )
    extract(second, root, "strong", "weak")
    configs = (first, second, config_of_member(root, training={"seed": 9}))
    names = ("exp/checkpoints/best", "é b", "c")
    paths = (
        str(save_member(config, root / f"{name}.ckpt", number))
        for number, (name, config) in enumerate(zip(names, configs, strict=True))
    )
    return Place(root, configs, tuple(paths))


def scores_of(config, path, stage="test"):
    """The accumulator of a checkpoint after it has scored all clips of a stage alone."""
    config = with_embedding_size(config)
    data, module = SedDataModule(config), run.SEDTask4(config).eval()
    module.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    data.check(stage)
    loader = data.test_dataloader() if stage == "test" else data.predict_dataloader()
    with torch.inference_mode():
        for number, batch in enumerate(loader):
            module.test_step(batch, number)
    return module.score_accumulator


@pytest.fixture(scope="module")
def scored(place):
    """The scores of each checkpoint in a test."""
    return [scores_of(*one) for one in zip(place.configs, place.paths, strict=True)]


@pytest.fixture(scope="module")
def tested(place):
    """Run folder of a test of all three."""
    options = run.RunOptions(str(place.root / "tests"), own_stores=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result_writers, "ROLLS_PER_CORPUS", 1)  # each takes its time
        return run.test(place.configs[0], place.paths, options)


def mean_of(scored, role, name):
    """Clip -> mean over the checkpoints of its scores (frame, class), classes in our order."""
    each = []
    for one in scored:
        scores = one.scores(role, one.task.corpus(name))
        columns = [scores.vocabulary.index(label) for label in CLASSES]
        of_clips = zip(scores.clip_ids, scores.each(), strict=True)
        each.append({c: of.values[:, columns].astype(np.float64) for c, of in of_clips})
    return {clip: sum(one[clip] for one in each) / len(each) for clip in each[0]}


def test_the_scores_of_a_test_are_the_mean(place, tested, scored):
    for role in ROLES:
        expected = mean_of(scored, role, "strong")
        stored = np.load(tested / "metrics_test" / role / "scores_strong.npz")
        assert stored["event_labels"].tolist() == [*CLASSES]
        whole = dict(zip(stored["clip_ids"].tolist(), stored["unprocessed"], strict=False))
        longer = np.concatenate([of for clip, of in expected.items() if clip not in whole])
        np.testing.assert_allclose(stored["long_unprocessed"], longer, atol=1e-6)
        for clip, values in whole.items():
            np.testing.assert_allclose(values, expected[clip], atol=1e-6)
        each = [mean_of([one], role, "strong") for one in scored]
        spread = max(np.std([one[clip] for one in each], axis=0).max() for clip in expected)
        assert spread > 0.1  # or the mean would be that of any of them
    # Of tags: the mean of each window, then the likeliest window.
    tags = np.load(tested / "metrics_test" / "student" / "tags_weak.npz")
    single = [one.clip_scores("student", one.task.corpus("weak")) for one in scored]
    corpus = scored[0].task.corpus("weak")
    n_longer = len(scored[0].collectors("student", corpus)["clips"].recordings())
    n_whole = len(single[0].clip_ids) - n_longer
    columns = [[one.task.classes.index(label) for label in CLASSES] for one in scored]
    rows = [of.scores[:n_whole, turned] for of, turned in zip(single, columns, strict=True)]
    np.testing.assert_allclose(tags["scores"][:n_whole], np.mean(rows, axis=0), atol=1e-6)
    np.testing.assert_array_equal(tags["present"], single[0].present > 0)


def test_results_and_records_name_every_checkpoint(place, tested):
    digests = [sha256_of(Path(path)) for path in place.paths]
    content = json.loads((tested / "results.json").read_text(encoding="utf-8"))
    assert content["checkpoint_sha256"] == ensemble_sha256(digests[::-1])
    assert [one["checkpoint_sha256"] for one in content["ensemble"]] == sorted(digests)
    told = {one["checkpoint"]: (one["seed"], one["encoders"]) for one in content["ensemble"]}
    assert told == {
        "best.ckpt": (42, ["atst_frame"]),
        "é b.ckpt": (5, ["m2d"]),
        "c.ckpt": (9, []),
    }
    assert set(content["checkpoint"].split(", ")) == set(told)
    assert str(place.root) not in json.dumps(content, ensure_ascii=False)
    (record,) = yaml.safe_load((tested / "run.yaml").read_text(encoding="utf-8"))
    members = record["ensemble"]["checkpoints"]
    assert [one["path"] for one in members] == [*place.paths]
    for key in ("macs", "parameters"):
        assert record["network"][key] == sum(one["network"][key] for one in members) > 0
    assert (tested / "error_report" / "index.html").is_file()
    assert (tested / "metrics_test" / "student" / "timeline.png").is_file()


def test_predictions_average_the_same_scores(place, tested):
    """Also of different encoders, and of classes in different orders."""
    detector = SoundEventDetector.from_checkpoint(place.paths, hop_s=1.024)
    stored = np.load(tested / "metrics_test" / "student" / "scores_strong.npz")
    long_rows = np.split(stored["long_unprocessed"], np.cumsum(stored["long_n_frames"])[:-1])
    clips = zip(stored["clip_ids"].tolist(), [*stored["unprocessed"], *long_rows], strict=True)
    lengths = set()
    for clip, values in clips:
        waveform, rate = sf.read(place.root / "strong" / f"{clip}.wav", dtype="float32")
        found = detector.detect(waveform, rate).unprocessed
        n_frames = min(len(found), len(values))  # a short clip is padded
        np.testing.assert_allclose(found[:n_frames], values[:n_frames], atol=1e-6)
        lengths.add(n_frames)
    assert len(lengths) > 1


def test_the_order_of_checkpoints_changes_no_bit(scored):
    """Each with as many rows of a process as of all, and rows in any order."""
    means = []
    for order in ((0, 1, 2), (2, 0, 1)):
        sums = ScoreSums(CLASSES)
        for number in order:
            one = scored[number]
            corpora = one.task.scored_corpora("test")
            before = dict(one._frames), dict(one._clips)
            sums.take(one, corpora, f"{number}.ckpt")
            one._frames, one._clips = before
        into = type(scored[0])(scored[0].config)
        sums.put_mean(into, into.task.scored_corpora("test"))
        means.append(into.scores("teacher", into.task.corpus("strong")))
    assert means[0].clip_ids == means[1].clip_ids
    np.testing.assert_array_equal(means[0].values, means[1].values)


def test_an_evaluation_writes_tables_of_the_mean(place, tmp_path):
    options = run.RunOptions(str(tmp_path), own_stores=True)
    folder = run.evaluate(place.configs[0], (place.paths[0], place.paths[2]), options)
    each = [scores_of(place.configs[n], place.paths[n], "predict") for n in (0, 2)]
    expected = mean_of(each, "teacher", "eval")
    tables = list((folder / "metrics_test/teacher_scores/unprocessed").iterdir())
    assert {path.stem for path in tables} == expected.keys() and len(tables) == 8
    for path in tables:
        table = np.loadtxt(path, delimiter="\t", skiprows=1)[:, 2:]
        # Up to the end of the clip, in six decimals.
        np.testing.assert_allclose(table, expected[path.stem][: len(table)], atol=2e-6)


def test_what_cannot_be_averaged_is_refused(place, tmp_path):
    first, alone = place.paths[0], place.paths[2]
    copy = tmp_path / "copy.ckpt"
    shutil.copy(alone, copy)
    frames = place.save("frames", feats={"hop_length": 256})
    boxes = place.save("boxes", decoder={"kind": "boxes"})
    for paths, told in (
        ((alone, str(copy)), "copy.ckpt: the same as .*c.ckpt, by SHA-256"),
        ((alone, frames), "frames.ckpt: has 63 frames of 0.032 s per clip, .*c.ckpt 31 of 0.064"),
        ((first, boxes), r"boxes.ckpt: is decoded otherwise than .*best.ckpt \(.*name.*--set deco"),
    ):
        options = run.RunOptions(str(tmp_path / "none"), own_stores=True)
        with pytest.raises(InputError, match=told):
            run.test(place.configs[2], paths, options)
    tree = place.configs[2].dump()
    tree["tuned"]["checkpoint_sha256"] = sha256_of(Path(alone))
    options = run.RunOptions(str(tmp_path / "none"))
    with pytest.raises(InputError, match="values that were tuned for one checkpoint"):
        run.test(check_config(tree, "best.yaml"), (alone, first), options)
    assert not (tmp_path / "none").exists()


def test_all_differences_are_listed_at_once():
    config = load_config(CONF)
    a = SimpleNamespace(name="a", number=0)
    clips = [SimpleNamespace(corpus=a, clip_ids=("1", "2"))]
    data = SimpleNamespace(scored=lambda stage: clips)
    fewer = [SimpleNamespace(corpus=a, clip_ids=("1",))]
    other = SimpleNamespace(scored=lambda stage: fewer)
    half = load_config(CONF, ["training.precision=bf16"])
    members = [
        EnsembleMember(Path("a.ckpt"), config, data, None),
        EnsembleMember(Path("b.ckpt"), half, other, None),
    ]
    with pytest.raises(InputError) as caught:
        check_members(members, "test")
    heading, *lines = str(caught.value).splitlines()
    assert heading == "scores of these checkpoints cannot be averaged:"
    assert lines[0].startswith("  - b.ckpt: computes in precision bf16, a.ckpt in 32; choose one")
    assert lines[1].startswith("  - b.ckpt: scores other clips of a than a.ckpt (2); give one")
    check_members([members[0], members[0]], "test")


class ConfigOfTask:
    """A configuration with another task."""

    def __init__(self, config, task):
        self.config, self.detection_task = config, task

    def __getattr__(self, name):
        return getattr(self.config, name)


def member_of(name, kinds):
    """A member whose task scores the corpus a so."""
    scored = [SimpleNamespace(corpus=SimpleNamespace(name="a"), clip_ids=("1",))]
    config = load_config(CONF)
    classes = config.detection_task.classes
    task = SimpleNamespace(kinds=lambda corpus: frozenset(kinds), classes=classes)
    config = ConfigOfTask(config, task)
    return EnsembleMember(Path(name), config, SimpleNamespace(scored=lambda stage: scored), None)


def test_members_must_score_the_same_things():
    members = [member_of("a.ckpt", {"events"}), member_of("b.ckpt", {"events", "tags"})]
    told = "b.ckpt: scores events and tags of a, a.ckpt events; give one configuration for all"
    with pytest.raises(InputError, match=told):
        check_members(members, "test")
    check_members([members[0], member_of("c.ckpt", {"segments", "events"})], "test")


def accumulator_of(*kinds):
    """Collected scores 1 of one clip."""
    names = [CollectedRow("1", None)]
    rows = np.ones((1, 2, 2), np.float32)
    collector = SimpleNamespace(named_rows=lambda: (names, rows), add=lambda *_: None)
    return SimpleNamespace(
        gather=lambda corpora: None,
        clear=lambda: None,
        task=SimpleNamespace(classes=("x", "y")),
        collectors=lambda role, corpus: dict.fromkeys(kinds, collector),
    )


def test_sums_of_fewer_checkpoints_are_no_mean():
    corpora = [SimpleNamespace(name="a")]
    sums = ScoreSums(("x", "y"))
    sums.take(accumulator_of("frames"), corpora, "a.ckpt")
    with pytest.raises(InputError, match=r"b.ckpt: scores clips of a, and not every checkpoint"):
        sums.take(accumulator_of("frames", "clips"), corpora, "b.ckpt")
    sums.clear()
    sums.take(accumulator_of("frames", "clips"), corpora, "a.ckpt")
    sums.take(accumulator_of("frames"), corpora, "b.ckpt")
    with pytest.raises(InputError, match="clips of a are scored by 1 of 2 checkpoints"):
        sums.put_mean(accumulator_of("frames", "clips"), corpora)


def test_the_command_takes_several(place, tmp_path):
    copy = tmp_path / "copy.ckpt"
    shutil.copy(place.paths[0], copy)
    words = ("--test_from_checkpoint", place.root / "exp", copy, "--log_dir", tmp_path / "none")
    done = run_main("train_pretrained.py", *words, "--gpus", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert f"checkpoint: {place.paths[0]}" in done.stdout
    assert f"{copy}: the same as {place.paths[0]}, by SHA-256" in done.stderr


def test_other_classes_are_refused(place, tmp_path):
    config = load_config(CONF)
    config = check_config(
        {**config.dump(), "net": {**config.dump()["net"], "use_embeddings": False}}, "x"
    )
    other = save_member(config, tmp_path / "other.ckpt", 1)
    options = run.RunOptions(str(tmp_path / "none"), own_stores=True)
    with pytest.raises(InputError, match=r"has 27 classes, the task .* has 4"):
        run.test(place.configs[2], (place.paths[2], str(other)), options)
