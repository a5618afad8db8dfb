"""Corpora of one's own: long recordings, weak and unlabelled clips, tiny sets, shared folders."""

from __future__ import annotations

import copy
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml
from torch.nn import functional as F

from desed_task.errors import InputError
from local.config import check_config
from local.data.clips.files import clips_of
from local.data.datamodule import SedDataModule
from local.extraction.extractor import Extractor
from local.extraction.sets import choose_sets, find_wavs, windows_of_sets
from tests.local.data.test_packed_corpora import opened

RATE = 16000
CLASSES = ["Tür/Tor", "Hund, groß", "🔔"]
# Recording -> seconds: in windows, whole, cropped, padded.
CLIPS_S = {"lang 1": 185.3, "x/zehn": 10.0, "x/10.4": 10.4, "zwei": 2.0, "y/25": 25.37}
EVENTS = {
    "lang 1": [(0.5, 3.0, 0), (9.9, 10.1, 1), (100.0, 112.0, 2), (180.0, 185.3, 0)],
    "x/zehn": [(1.0, 2.0, 0)],
    "x/10.4": [(10.1, 10.4, 1)],
    "zwei": [(0.0, 2.0, 2)],
    "y/25": [(5.0, 6.0, 1), (24.0, 25.3, 0)],
}
TABLE = {"path": "labels/{clip}.txt", "format": "audacity"}
TASK = {
    "classes": CLASSES,
    "corpora": {
        "train": {"audio": "audio", "table": TABLE, "rows": 2, "hop_s": 5.12, "embeddings": "all"},
        "val": {"audio": "audio", "table": TABLE, "split": "validation", "embeddings": "all",
                "hop_s": 5.12},
        "test": {"audio": "audio", "table": TABLE, "split": "test", "pattern": "x/*"},
    },
    "scored": {"events": {"validation": "val", "test": "test"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("own")
    draws = np.random.default_rng(0)
    for name, seconds in CLIPS_S.items():
        wav, labels = root / "audio" / f"{name}.wav", root / "labels" / f"{name}.txt"
        for path in (wav, labels):
            path.parent.mkdir(parents=True, exist_ok=True)
        loudness = np.repeat(draws.uniform(0.01, 0.5, round(seconds * 4) + 1), RATE // 4)
        samples = loudness[: round(seconds * RATE)] * draws.uniform(-1, 1, round(seconds * RATE))
        sf.write(wav, samples, RATE, subtype="FLOAT")
        rows = (f"{on:.6f}\t{off:.6f}\t{CLASSES[label]}\n" for on, off, label in EVENTS[name])
        labels.write_text("".join(rows), encoding="utf-8")
    return root


def tree_of(small_tree, folder, task=TASK, **more):
    tree = small_tree("mini.yaml")
    task = {**copy.deepcopy(task), "root": str(folder)}
    for key, value in more.pop("corpora", {}).items():
        task["corpora"][key] = {**task["corpora"].get(key, {}), **value}
    sizes = ("audio_max_len", "net_subsample", "fs")
    data = {key: tree["data"][key] for key in sizes if key in tree["data"]}
    tree |= {"task": task, "data": {**data, "packed_dir": None}}
    tree["training"] = {
        key: value for key, value in tree["training"].items() if "maestro" not in key
        and "weak_split" not in key and "obj_metric" not in key
    } | {"batch_size": None}  # fmt: skip
    net = {**tree["net"], "median_filter": 7, "use_embeddings": more.pop("embeddings", False)}
    net.pop("nclass", None)
    tree["net"] = net
    tree["data"] |= more
    return tree


def module_of(tree) -> SedDataModule:
    data = SedDataModule(check_config(tree, "test"))
    data.check()
    return data


def refused(tree) -> str:
    with pytest.raises(InputError) as error:
        module_of(tree)
    return str(error.value)


def expected_target(grid, name, onset_s):
    """The events of a recording in the window from a time on, frame by frame."""
    target = np.zeros((len(CLASSES), grid.n_frames), dtype=np.float32)
    for onset, offset, label in EVENTS[name]:
        first = math.floor(round((onset - onset_s) / grid.frame_s, 6))
        last = math.ceil(round((offset - onset_s) / grid.frame_s, 6))
        target[label, max(first, 0) : max(last, 0)] = 1
    return target


def test_windows_of_training_have_exactly_their_own_events(small_tree, folder):
    data = module_of(tree_of(small_tree, folder))
    (rows,) = data._training_sets().values()
    (leaf,) = rows.leaves
    n_windows = {
        name: sum(leaf.clip_ids[row.clip] == name for row in leaf.rows) for name in CLIPS_S
    }
    assert n_windows == {"lang 1": 36, "x/zehn": 1, "x/10.4": 1, "zwei": 1, "y/25": 5}
    for row in range(len(leaf)):
        name = leaf.clip_ids[leaf.rows[row].clip]
        onset_s = leaf.window_onset_s(row)
        item = leaf[row]
        np.testing.assert_array_equal(item.target, expected_target(data.grid, name, onset_s))
        whole, _ = sf.read(folder / "audio" / f"{name}.wav", dtype="float32")
        start = round(onset_s * RATE)
        heard = whole[start : start + 160000]
        np.testing.assert_array_equal(item.waveform[: len(heard)], heard)
    # All of a recording is heard, the end included.
    ends = [leaf.rows[row].span for row in range(len(leaf)) if leaf.rows[row].span]
    assert {span.n_samples for span in ends if span.last} == {round(185.3 * RATE), 405920}
    lines = data.long_clip_lines("fit")
    assert (
        "clips longer than 10.5 s, trained on in windows 5.12 s apart: 2 of train (train)" in lines
    )
    assert "clips longer than 10.5 s, scored in windows 5.12 s apart: 2 of val (val)" in lines


def test_packed_windows_are_those_of_the_files(small_tree, folder, tmp_path):
    files = yaml_of(tree_of(small_tree, folder), tmp_path / "files.yaml")
    packed = yaml_of(
        tree_of(small_tree, folder, packed_dir=str(tmp_path)), tmp_path / "packed.yaml"
    )
    one, other = opened(files), opened(packed)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        n = 0
        for a, b in zip(getattr(one, loader)(), getattr(other, loader)(), strict=True):
            assert a.clip_id == b.clip_id and a.span == b.span
            for left, right in zip(a.tensors, b.tensors, strict=True):
                assert torch.equal(left, right)
            n += 1
        assert n
    # Corpora of one folder, which train and test share, are packed apart.
    assert {path.name.partition(".")[0] for path in tmp_path.glob("*.packed")} == {
        "train", "val", "test",
    }  # fmt: skip


def yaml_of(tree, path) -> Path:
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    return path


def test_windows_that_are_trained_on_have_embeddings(
    small_tree, folder, extracted, tmp_path, capsys
):
    """Two corpora whose embeddings have one file, and one whose clips are a part of them."""
    tree = tree_of(small_tree, folder, embeddings=True)
    tree["pretrained"] = yaml.safe_load(extracted.read_text())["pretrained"]
    tree["pretrained"]["extracted_embeddings_dir"] = str(tmp_path)
    config = check_config(tree, "test")
    sets = choose_sets(config, None, eval_set=False)
    assert sets == ("all", "test")
    wavs = find_wavs(config, sets)
    assert list(wavs["test"]) == ["x/10.4", "x/zehn"]
    extractor = Extractor.open(
        config.pretrained.encoders[0],
        tmp_path,
        clip_s=10.0,
        device=torch.device("cpu"),
        progress=False,
        windows=windows_of_sets(config),
    )
    for name in sets:
        assert extractor.extract(name, wavs[name]) == []
    assert "5 clips (2 of them longer: 39 further windows)" in capsys.readouterr().out
    data = module_of(tree)
    (leaf,) = next(iter(data._training_sets().values())).leaves
    reader = data.loaded["train"].embeddings
    for row in (0, 3, len(leaf) - 1):
        name = leaf.row_name(row)
        np.testing.assert_array_equal(leaf[row].embedding, reader.frame(name))
    assert F.mse_loss(leaf[0].embedding, leaf[1].embedding) > 1e-6
    tree["task"]["corpora"]["val"]["hop_s"] = 2.56
    with pytest.raises(InputError, match=r"all: windows at different distances \(5\.12 s of train"):
        windows_of_sets(check_config(tree, "test"))
    del tree["task"]["corpora"]["val"]["embeddings"]
    assert "windows of 2 clips longer than 10 s" not in refused(tree)
    tree["task"]["corpora"]["train"]["hop_s"] = 2.56
    text = refused(tree)
    assert "all.hdf5: lacks " in text and "which are read in windows 2.56 s apart" in text
    tree["task"]["corpora"]["train"]["hop_s"] = 11
    assert "task.corpora.train.hop_s = 11: windows must be at least one frame" in refused(tree)


def test_cropped_recordings_are_one_row_each(small_tree, folder):
    data = module_of(tree_of(small_tree, folder, corpora={"train": {"long": "crop"}}))
    (rows,) = data._training_sets().values()
    assert len(rows) == len(CLIPS_S)


def test_weak_unlabelled_and_strong_corpora_in_one_batch(small_tree, folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weak = 'Datei;Klassen\nzwei.wav;"Hund, groß, 🔔"\nx/zehn;Tür/Tor\n'
    (tmp_path / "weak.csv").write_text(weak, encoding="utf-8")
    columns = {"filename": "Datei", "label": "Klassen"}
    corpora = {
        "nothing": {"audio": "audio", "labels": "none", "rows": 1, "long": "crop"},
        "weak": {
            "audio": "audio",
            "labels": "weak",
            "table": {"path": "weak.csv", "separator": "semicolon", "columns": columns},
            "rows": 2,
            "consistency": False,
        },
        "off": {"audio": "audio", "labels": "none", "rows": 0},
    }
    data = module_of(tree_of(small_tree, tmp_path, corpora=corpora))
    batch = next(iter(data.train_dataloader()))
    numbers = [
        data.task.corpus(name).number for name in ("train", "train", "nothing", "weak", "weak")
    ]
    assert batch.source.tolist() == numbers
    labels = {
        clip: set(target[:, 0].nonzero()[:, 0].tolist())
        for clip, target in zip(batch.clip_id[3:], batch.target[3:], strict=True)
    }
    assert labels == {"zwei": {1, 2}, "x/zehn": {0}}
    assert "off" not in data.loaded


def test_a_set_smaller_than_its_rows_says_what_to_set(small_tree, folder):
    one = {"train": {"rows": 9, "long": "crop", "title": "eigene"}}
    assert (
        "task.corpora.train.rows: 9 rows of eigene, but the set has 5 clips; lower the quota or "
        "add clips (at most 5 fit)"
    ) in refused(tree_of(small_tree, folder, corpora=one))
    tree = tree_of(small_tree, folder, corpora=one)
    tree["training"]["batch_size"] = [7]
    assert "training.batch_size: 7 rows of eigene" in refused(tree)


@pytest.mark.parametrize("by", ["clip", "recording"])
def test_one_clip_is_trained_and_scored_on(small_tree, folder, tmp_path, by):
    (tmp_path / "one.txt").write_text("zwei.wav\n")
    only = {"clips": str(tmp_path / "one.txt"), "rows": 1}
    data = module_of(tree_of(small_tree, folder, corpora={"train": only}))
    assert len(list(data.train_dataloader())) == 1
    split = {"split": {"by": by, "validation": 0.5}, **only}
    tree = tree_of(small_tree, folder, corpora={"train": split})
    tree["task"]["scored"]["events"]["validation"] = "train"
    del tree["task"]["corpora"]["val"]
    text = refused(tree)
    assert "none of the clips" in text and "add " in text


def test_a_class_without_events_is_no_obstacle_and_none_at_all_is(small_tree, folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "labels" / "x" / "zehn.txt").write_text("")
    data = module_of(tree_of(small_tree, tmp_path))
    (truth,) = data.truths("test")
    assert truth.events.clip_ids == ("x/10.4", "x/zehn") and len(truth.events) == 1
    (tmp_path / "labels" / "x" / "10.4.txt").write_text("")
    text = refused(tree_of(small_tree, tmp_path))
    assert "lists clips but no event" in text


def test_left_out_clips_belong_to_their_part(small_tree, folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for name in ("x/zehn", "zwei"):
        (tmp_path / "labels" / f"{name}.txt").write_text("")
    split = {
        "split": {"validation": 0.4, "test": 0.2},
        "clips_without_events": "leave_out",
        "long": "crop",
        "rows": 1,
    }
    tree = tree_of(small_tree, tmp_path, corpora={"train": split})
    tree["task"]["scored"]["events"] = {"validation": "train", "test": "train"}
    for seed in range(30):
        tree["training"]["seed"] = seed
        data = SedDataModule(check_config(tree, "test"))
        data.problems("fit")
        corpus = data.task.corpus("train")
        parts = [data.part(corpus, use) for use in ("train", "validation", "test")]
        assert sorted(c for part in parts for c in part.left_out) == ["x/zehn", "zwei"]
        assert sorted(c for part in parts for c in (*part.clip_ids, *part.left_out)) == sorted(
            CLIPS_S
        )
        for stage, part in (("val", parts[1]), ("test", parts[2])):
            (truth,) = data.truths(stage)
            assert set(truth.durations) == {*part.clip_ids, *part.left_out} & set(truth.durations)
            assert set(truth.durations) >= set(part.clip_ids)


def test_a_list_of_clips_names_what_is_not_there(small_tree, folder, tmp_path):
    listed = tmp_path / "liste.csv"
    listed.write_text('fname,split\n"zwei",a\nx/zehn.wav,b\nfehlt.wav,a\n')
    labels = {"clips": str(listed), "rows": 1}
    tree = tree_of(small_tree, folder, corpora={"train": labels})
    with pytest.warns(UserWarning, match=r"1 of 3 clips has no labels and is left out \(fehlt"):
        data = module_of(tree)
    assert set(data.loaded["train"].clip_ids) == {"zwei", "x/zehn"}
    corpus = data.task.corpus("train")
    assert set(clips_of(corpus).files) == {"zwei", "x/zehn"}
    listed.write_text("nirgends.wav\n")
    assert "none of its 1 clip is in " in refused(tree)
    listed.unlink()
    assert "liste.csv: no such list of clips" in refused(tree)


def test_audio_that_is_not_prepared_is_told_with_the_command(small_tree, folder):
    tree = tree_of(
        small_tree,
        folder,
        corpora={"val": {"embeddings": "val"}, "train": {"audio": "16k", "originals": "wav 44"}},
    )
    text = refused(tree)
    assert "task.corpora.train.audio: " in text and "16k: no such folder" in text
    assert "generate_dcase_task4_2024.py --conf_file (the same file) resamples it from " in text
    with pytest.raises(InputError, match=r"train\.audio: .*no such folder.*resamples it from "):
        find_wavs(check_config(tree, "test"), ("all",))


def test_each_epoch_draws_an_annotator_of_each_clip(small_tree, folder, tmp_path):
    """Packed or not, and from the epoch on that a training is resumed with."""
    rows = ["filename,onset,offset,event_label,annotator"]
    rows += [
        f'{name}.wav,{n / 2},{n / 2 + 0.4},"{CLASSES[0]}",{who}'
        for name in CLIPS_S
        for n, who in enumerate(["Ann", "Ben", "Ön"])
    ]
    (tmp_path / "raw.csv").write_text("\n".join(rows), encoding="utf-8")
    table = {"path": str(tmp_path / "raw.csv")}
    train = {"table": table, "annotators": "random", "rows": 3, "pattern": "?/*"}
    train |= {"long": "crop", "aliases": {CLASSES[0]: CLASSES[2]}}
    tree = tree_of(small_tree, folder, corpora={"train": train})
    files = opened(yaml_of(tree, tmp_path / "files.yaml"))
    tree["data"]["packed_dir"] = str(tmp_path / "packed")
    packed = opened(yaml_of(tree, tmp_path / "packed.yaml"))
    onsets = set()
    for epoch in range(12):
        batches = [batch_of(data, epoch) for data in (files, packed)]
        for left, right in zip(batches[0].tensors, batches[1].tensors, strict=True):
            assert torch.equal(left, right)
        target = batches[0].target
        assert torch.equal(target[:, 0], target[:, 2]) and target[:, 0].any()
        onsets.add(int(target[batches[0].clip_id.index("x/zehn"), 0].argmax()))
    assert onsets == {0, 7, 15}  # the others are cropped at random
    files.first_epoch = 11
    assert torch.equal(batch_of(files, None).target, target)
    # What is counted and digested is the majority, and what anybody heard.
    assert not len(files.loaded["train"].events)
    before = files.digests("fit")["train"]["table"]
    (tmp_path / "raw.csv").write_text("\n".join(rows).replace("Ben", "Ön"), encoding="utf-8")
    assert module_of(tree).digests("fit")["train"]["table"] != before


def batch_of(data, epoch):
    """The only batch of an epoch; None for the one that a training begins with."""
    loader = data.train_dataloader()
    if epoch is not None:
        loader.batch_sampler.set_epoch(epoch)
    (batch,) = loader
    return batch


def test_clips_that_are_trained_on_and_scored_are_named(small_tree, folder, recwarn):
    task = copy.deepcopy(TASK)
    task["corpora"]["train"]["pattern"] = "[lz]*"
    task["corpora"]["val"]["pattern"] = "y/*"
    module_of(tree_of(small_tree, folder, task))
    assert not [one for one in recwarn if "are scored, but" in str(one.message)]
    task["corpora"]["train"]["pattern"] = "**"
    task["corpora"]["test"]["audio"] = "x/../audio"
    (folder / "x").mkdir(exist_ok=True)
    with pytest.warns(UserWarning, match="scores will be too good") as told:
        module_of(tree_of(small_tree, folder, task))
    told = [str(one.message) for one in told if "too good" in str(one.message)]
    assert [one.partition(": ")[0] for one in told] == [
        "1 clip of val (y/25) is scored, but trained on in train",
        "2 clips of test (x/10.4, x/zehn) are scored, but trained on in train",
    ]
