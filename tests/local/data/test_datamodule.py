"""Splits and loaders: what a batch holds, who is held out, and that nothing depends on workers."""

from __future__ import annotations

import itertools
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from desed_task.dataio.datasets import ItemKey
from local.config import load_config
from local.data.datamodule import SedDataModule
from tests.local.data.published import SEGMENTS, TASK, VOCABULARY, number

ROOT = Path(__file__).resolve().parents[3]
TWO_PROCESSES = Path(__file__).with_name("two_processes.py")


def checked(path, *overrides):
    module = SedDataModule(load_config(path, overrides))
    module.check()
    return module


@pytest.fixture(scope="module")
def data(extracted):
    return checked(extracted)


def maestro_parts(data):
    """The clips that are trained on and those that are held out."""
    corpus = data.task.corpus("maestro_real_train")
    return data.part(corpus, "train"), data.part(corpus, "validation")


def epoch_of(loader, epoch, batches=2):
    loader.batch_sampler.set_epoch(epoch)
    return list(itertools.islice(loader, batches))


def assert_same(one, other):
    assert one.clip_id == other.clip_id
    for left, right in zip(one.tensors, other.tensors, strict=True):
        assert torch.equal(left, right)


def test_a_batch_holds_each_source_s_quota(data):
    batch = next(iter(data.train_dataloader()))
    rows = batch.source.tolist()
    maestro, synthetic, strong, weak, unlabelled = (one.number for one in TASK.trained_on)
    assert rows[:3] == [maestro, maestro, synthetic]
    assert rows[3] in (synthetic, strong)
    assert rows[4:] == [weak] * 2 + [unlabelled] * 2
    assert batch.waveform.shape == (8, 160000)
    assert batch.target.shape == (8, 27, 156)
    assert batch.embedding.shape == (8, 128, 496)
    assert len(batch.clip_id) == 8
    assert batch.known.sum(1).tolist() == [20, 20] + [10] * 6
    assert not batch.target[~batch.known].any()


def test_rows_carry_what_the_disk_has_of_their_clip(data):
    batch = next(iter(data.train_dataloader()))
    for row, source in enumerate(batch.source.tolist()):
        corpus = TASK.of_number(source)
        reader = data._loaded[corpus.name].embeddings
        np.testing.assert_array_equal(batch.embedding[row], reader.frame(batch.clip_id[row]))


def test_global_embeddings(extracted):
    overrides = ["net.embedding_type=global", "net.aggregation_type=global"]
    batch = next(iter(checked(extracted, *overrides).train_dataloader()))
    assert batch.embedding.shape == (8, 128)


def test_the_third_set_is_strong_real_and_synthetic_as_one(data):
    sets = data._training_sets()
    parts = [part.source.item() for part in sets["strong real + synthetic training"].parts]
    assert parts == [number("strong_train"), number("synth_train")]
    joined = len(sets["strong real + synthetic training"])
    synthetic, strong = (
        len(data._loaded[name].clip_ids) for name in ("synth_train", "strong_train")
    )
    assert joined == synthetic + strong
    assert len(sets["synthetic training"]) == synthetic
    steps = min(len(s) // q for s, q in zip(sets.values(), (2, 1, 1, 2, 2), strict=True))
    assert len(data.train_dataloader()) == steps


def test_held_out_clips_are_not_trained_on_and_come_once(data):
    held_out = {corpus.number: [] for corpus in TASK.scored_corpora("val")}
    for batch in data.val_dataloader():
        for name, source in zip(batch.clip_id, batch.source.tolist(), strict=True):
            held_out[source].append(name)
    parts = [part for joined in data._training_sets().values() for part in joined.parts]
    for corpus in ("weak_train", "maestro_real_train"):
        source = number(corpus)
        trained = [name for part in parts if part.source == source for name in part.clip_ids]
        everything = data._loaded[corpus].clip_ids
        assert sorted(trained + held_out[source]) == sorted(everything)
        assert held_out[source]
    synthetic = data._loaded["synth_val"].clip_ids
    assert held_out[number("synth_val")] == list(synthetic)


@pytest.mark.parametrize("seed", [42, 0, 1, 2, 3])
def test_validation_hears_no_recording_that_is_trained_on(extracted, seed):
    """Clips of a recording overlap. Both parts have events to learn and to score."""
    data = checked(extracted, f"training.seed={seed}")
    trained_on, held_out = maestro_parts(data)
    recordings = [{c.split("-")[0] for c in part.clip_ids} for part in (trained_on, held_out)]
    assert not recordings[0] & recordings[1]
    assert len(recordings[0]) == len(recordings[1]) == 5
    scored = VOCABULARY.mask(SEGMENTS)
    for part in (trained_on, held_out):
        events = part.events
        assert (scored[events.label_index] & (events.confidence > 0.5)).any()


def test_absent_clips_do_not_change_which_recordings_are_held_out(data, extracted, tmp_path):
    folder = Path(data.config.data.real_maestro_train_folder)
    (tmp_path / "clips").mkdir()
    for wav in sorted(folder.glob("*.wav"))[2:]:
        (tmp_path / "clips" / wav.name).symlink_to(wav)
    with pytest.warns(UserWarning, match="2 of 30 listed clips"):
        part = checked(extracted, f"data.real_maestro_train_folder={tmp_path / 'clips'}")
    for one, other in zip(maestro_parts(part), maestro_parts(data), strict=True):
        assert one.clip_ids == tuple(
            c for c in other.clip_ids if c not in part.missing["maestro_real_train"]
        )


def test_every_test_clip_comes_once(data):
    rows = [
        (source, name)
        for batch in data.test_dataloader()
        for source, name in zip(batch.source.tolist(), batch.clip_id, strict=True)
    ]
    expected = [
        (corpus.number, name)
        for corpus in TASK.scored_corpora("test")
        for name in data._loaded[corpus.name].clip_ids
    ]
    assert rows == expected
    assert {source for source, _ in rows} == {number("devtest"), number("maestro_real_dev")}


def test_maestro_trains_with_aliases_and_is_scored_without(data):
    part = data._training_sets()["MAESTRO real training"].parts[0]
    speech, talking = VOCABULARY.index("Speech"), VOCABULARY.index("people talking")
    targets = np.stack([part.targets.target(row, 0.0) for row in range(len(part))])
    talked = targets[:, talking] > 0
    assert talked.any()
    assert (targets[:, speech][talked] > 0).all()
    assert ((targets > 0) & (targets < 1)).any()
    for stage in ("val", "test"):
        assert not (data.truths(stage)[1].events.label_index == speech).any()


def test_held_out_maestro_clips_have_their_own_durations(data):
    truth = data.truths("val")[1]
    assert set(truth.durations) == set(truth.events.clip_ids)
    assert all(0 < duration <= 10.0 for duration in truth.durations.values())


def test_an_epoch_begun_later_is_that_of_an_uninterrupted_run(data, extracted):
    loader = data.train_dataloader()
    whole = [epoch_of(loader, epoch, batches=99) for epoch in range(3)]
    resumed = epoch_of(checked(extracted).train_dataloader(), 2, batches=99)
    assert len(resumed) == len(loader)
    for one, other in zip(whole[2], resumed, strict=True):
        assert_same(one, other)
    assert whole[1][0].clip_id != whole[2][0].clip_id


def test_workers_change_nothing(data, extracted):
    loader = data.train_dataloader()
    expected = [batch for epoch in range(2) for batch in epoch_of(loader, epoch)]
    # One loader over both epochs: its workers persist.
    working = checked(extracted, "training.num_workers=2").train_dataloader()
    found = [batch for epoch in range(2) for batch in epoch_of(working, epoch)]
    for one, other in zip(expected, found, strict=True):
        assert_same(one, other)


def test_datasets_survive_pickling(data):
    # What the start method "spawn" does to hand them to workers.
    dataset = data.train_dataloader().dataset
    key = ItemKey(3, (1, 2, 3))
    first = dataset[key]
    copy = pickle.loads(pickle.dumps(dataset))
    assert_same(copy[key], first)


def test_a_loader_leaves_the_global_generators_alone(data):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    next(iter(data.train_dataloader()))
    next(iter(data.val_dataloader()))
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_two_processes_share_the_rows_of_each_batch_and_gather_their_scores(extracted, tmp_path):
    functions = runpy.run_path(str(TWO_PROCESSES))
    (tmp_path / "two").mkdir()
    first, second, _ = functions["run"](extracted, tmp_path / "two", 2)
    alone, _ = functions["run"](extracted, tmp_path, 1)
    for epoch in ("0", "1"):
        together = functions["rows_together"]([first, second], epoch)
        assert together == alone["train"][epoch]
        assert len(together) >= 2
    assert first["train"]["0"] != first["train"]["1"]
    assert not set(first["seen"]) & set(second["seen"])
    assert set(first["seen"]) | set(second["seen"]) == set(alone["seen"])
    assert first["collected"] == alone["collected"]
    assert all(clips == [] for clips, _ in second["collected"].values())


def test_the_configured_seed_decides_who_is_held_out_and_what_is_drawn(extracted):
    other = checked(extracted)
    held_out: dict[str, set[frozenset[str]]] = {"weak_train": set(), "maestro_real_train": set()}
    for seed in range(6):
        other.config = load_config(extracted, [f"training.seed={seed}"])
        assert other.train_dataloader().batch_sampler.seed == seed
        for name, found in held_out.items():
            found.add(frozenset(other.part(TASK.corpus(name), "validation").clip_ids))
    assert all(len(found) > 1 for found in held_out.values()), held_out


def test_each_stage_is_held_against_the_truth_of_its_own_clips(data):
    held_out = maestro_parts(data)[1].clip_ids
    of_stages = {
        "val": (data._loaded["synth_val"].clip_ids, held_out),
        "test": tuple(data._loaded[name].clip_ids for name in ("devtest", "maestro_real_dev")),
    }
    names = {
        "val": ["synth_val", "maestro_real_train"],
        "test": ["devtest", "maestro_real_dev"],
    }
    for stage, clips in of_stages.items():
        truths = data.truths(stage)
        assert tuple(truth.events.clip_ids for truth in truths) == clips
        assert [truth.part.corpus.name for truth in truths] == names[stage]
        assert [truth.part.kind for truth in truths] == ["events", "segments"]


def test_a_recording_that_is_wholly_absent_changes_no_other_s_part(data, extracted, tmp_path):
    trained_on, held_out = (part.clip_ids for part in maestro_parts(data))
    absent = held_out[0].split("-")[0]
    folder = Path(data.config.data.real_maestro_train_folder)
    (tmp_path / "clips").mkdir()
    for wav in folder.glob("*.wav"):
        if wav.stem.split("-")[0] != absent:
            (tmp_path / "clips" / wav.name).symlink_to(wav)
    with pytest.warns(UserWarning, match="listed clips"):
        part = checked(extracted, f"data.real_maestro_train_folder={tmp_path / 'clips'}")
    rest = tuple(clip_id for clip_id in held_out if clip_id.split("-")[0] != absent)
    assert tuple(found.clip_ids for found in maestro_parts(part)) == (trained_on, rest)
