"""The published recordings and split, and those of own corpora."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from desed_task.errors import InputError
from local.data.splits import divide, recording_in, split_recordings
from local.schema.task import RecordingsDescription, SplitDescription
from tests.local.data.published import TASK

CORPUS = TASK.corpus("maestro_real_train")
SCENES = CORPUS.recordings.groups


def clip_ids(scenes, n_recordings, n_clips=2):
    return [
        f"{scene}_{number:02d}-{100 * clip:06d}-{100 * clip + 1000:06d}"
        for scene in scenes
        for number in range(n_recordings)
        for clip in range(n_clips)
    ]


def recordings_of(ids):
    return {clip_id.split("-")[0] for clip_id in ids}


def split_train_files(ids, fraction, seed):
    return split_recordings(dict.fromkeys(ids), fraction, seed, recording_in(CORPUS), SCENES)


def test_the_recordings_are_those_published(parity):
    split = json.loads(parity("maestro_split.json").read_text())
    assert list(CORPUS.recordings.expected) == split["train"]
    assert list(TASK.corpus("maestro_real_dev").recordings.expected) == split["validation"]


def test_split_shuffles_scene_by_scene_with_numpys_legacy_generator():
    ids = clip_ids(SCENES, 25)
    trained_on = set()
    np.random.seed(42)
    for scene in SCENES:
        names = np.array([f"{scene}_{number:02d}" for number in range(25)])
        np.random.shuffle(names)
        trained_on.update(names[:22].tolist())
    train, held_out = split_train_files(ids, 0.9, 42)
    assert list(train) == [clip_id for clip_id in ids if clip_id.split("-")[0] in trained_on]
    assert list(held_out) == [clip_id for clip_id in ids if clip_id not in train]


def test_split_counts_a_clip_once_in_the_order_of_first_appearance():
    ids = clip_ids(SCENES[::-1][:3], 11)
    assert split_train_files([*ids, *ids[::-1]], 0.5, 3) == split_train_files(ids, 0.5, 3)
    train, held_out = split_train_files(ids, 0.5, 3)
    assert (len(train), len(held_out)) == (30, 36)
    assert sorted(train + held_out) == sorted(ids)
    assert split_train_files(ids, 0.5, 4) != (train, held_out)
    # Sorted tables are the usual ones; another order lists, and so shuffles, others first.
    assert recordings_of(split_train_files(ids[::-1], 0.5, 3)[0]) != recordings_of(train)


def test_split_names_a_clip_of_no_scene():
    with pytest.raises(
        InputError, match=r"'kitchen_00': is of no group of recordings; .*city_center"
    ):
        split_train_files(["kitchen_00"], 0.9, 42)


@pytest.mark.parametrize("case", range(3))
def test_whole_recordings_are_held_out_as_published(parity, case):
    published = json.loads(parity("maestro_train_split.json").read_text())
    expected = published["cases"][case]
    parts = split_train_files(published["clips"], published["fraction"], expected["seed"])
    for part, name in zip(parts, ("train", "held_out"), strict=True):
        assert list(part) == expected[f"{name}_clips"]
        assert recordings_of(part) == set(expected[f"{name}_recordings"])


@pytest.mark.parametrize("seed", range(5))
def test_no_recording_is_both_trained_on_and_held_out(seed):
    train, held_out = split_train_files(clip_ids(SCENES, 7, 5), 0.9, seed)
    assert not recordings_of(train) & recordings_of(held_out)
    assert (len(recordings_of(train)), len(recordings_of(held_out))) == (30, 5)


def test_a_scene_with_one_recording_is_held_out():
    train, held_out = split_train_files(clip_ids(SCENES[:2], 1), 0.9, 42)
    assert (train, len(held_out)) == ((), 4)


# ---- own corpora


def own(split, **recordings):
    return replace(
        CORPUS,
        split=SplitDescription(**split),
        recordings=RecordingsDescription(**recordings),
    )


def cut(n_recordings, n_clips, group="ort-"):
    return [
        f"{group}{number % 3}/{group}{number:02d}_teil{clip}"
        for number in range(n_recordings)
        for clip in range(n_clips)
    ]


BY_NAME = {"pattern": r"([^/]+)_teil\d+$"}
SHARES = {"by": "recording", "validation": 0.2, "test": 0.2}


@pytest.mark.parametrize("seed", [0, 1, 42])
@pytest.mark.parametrize("groups", [(), ("ort-0", "ort-1"), ("haus", "ort-")])
def test_no_recording_is_in_two_parts_and_each_clip_in_one(seed, groups):
    clips = [*cut(20, 3), *(cut(7, 2, "haus") if "haus" in groups else ())]
    corpus = own(SHARES, **BY_NAME, groups=groups)
    parts = divide(corpus, clips, seed)
    name = recording_in(corpus)
    recordings = [set(map(name, part)) for part in parts]
    for one, other in itertools.combinations(recordings, 2):
        assert not one & other
    assert sorted(itertools.chain(*parts)) == sorted(clips)
    assert all(recordings)
    # The test knows neither seed nor order.
    again = divide(corpus, clips[::-1], seed + 1)
    assert set(again.test) == set(parts.test)
    for group in groups:
        assert any(name.startswith(group) for name in recordings[2])


@pytest.mark.parametrize("split", [{"by": "clip"}, {"by": "recording"}])
@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_folds_test_every_clip_once(split, n_folds):
    corpus = own({**split, "folds": n_folds, "validation": 0.25}, **BY_NAME)
    clips = cut(11, 2)
    folds = [divide(corpus, clips, 3, fold) for fold in range(1, n_folds + 1)]
    assert sorted(itertools.chain(*(fold.test for fold in folds))) == sorted(clips)
    sizes = [len({recording_in(corpus)(c) for c in fold.test}) for fold in folds]
    if split["by"] == "recording":
        assert max(sizes) - min(sizes) <= 1
    for fold in folds:
        assert fold.train and fold.validation
        assert not {*fold.test} & {*fold.train, *fold.validation}


def test_shares_are_of_all_clips():
    clips = [f"c{number}" for number in range(50)]
    for shares in ({"validation": 0.2, "test": 0.3}, {"train": 0.5, "test": 0.3}):
        parts = divide(own(shares), clips, 5)
        assert [len(part) for part in parts] == [25, 10, 15]


@pytest.mark.parametrize("n_clips", [1, 2, 3])
def test_few_clips_leave_something_to_train_on(n_clips):
    parts = divide(own({"test": 0.1}), [f"c{number}" for number in range(n_clips)], 1)
    assert (len(parts.test), len(parts.train)) == (
        min(n_clips - 1, 1),
        n_clips - min(n_clips - 1, 1),
    )


def test_a_clip_whose_name_has_no_recording_is_its_own():
    clips = ["a_teil1", "a_teil2", "einzeln", "b_teil1"]
    assert recording_in(own(SHARES, **BY_NAME))("einzeln") == "einzeln"
    parts = divide(own({"by": "recording", "validation": 0.4}, **BY_NAME), clips, 0)
    assert sorted(itertools.chain(*parts)) == sorted(clips)
