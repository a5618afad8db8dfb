"""MAESTRO's published recordings, and the split of its training clips."""

import json

import numpy as np
import pytest

from desed_task.errors import InputError
from local.data.maestro_split import (
    MAESTRO_TRAIN_RECORDINGS,
    MAESTRO_VALIDATION_RECORDINGS,
    SCENES,
    split_train_files,
)
from tests.local.prep.test_maestro_clips import clip_ids, recordings_of


def test_the_recordings_are_those_published(parity):
    split = json.loads(parity("maestro_split.json").read_text())
    assert list(MAESTRO_TRAIN_RECORDINGS) == split["train"]
    assert list(MAESTRO_VALIDATION_RECORDINGS) == split["validation"]


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
    with pytest.raises(InputError, match=r"'kitchen_00': names no MAESTRO scene; .*city_center"):
        split_train_files(["kitchen_00"], 0.9, 42)
