"""Plans of the mini corpus: every class in every set, oddities, MAESTRO's recordings and names."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from local.classes_dict import DESED_CLASSES, MAESTRO_REAL_CLASSES, MAESTRO_SCORED_CLASSES
from local.prep.maestro_recordings import (
    MAESTRO_TRAIN_RECORDINGS,
    MAESTRO_VALIDATION_RECORDINGS,
    SCENES,
    scene_of,
)
from local.prep.mini_corpus.clip_plans import SCENE_CLASSES, youtube_name
from local.prep.mini_corpus.sets import (
    MINI_CLIP_SETS,
    MiniSizes,
    labels_of,
    plan_recordings,
    plan_set,
    table_text,
)

SETS = {clips.name: clips for clips in MINI_CLIP_SETS}


@pytest.fixture(params=["full", "small"])
def sizes(request: pytest.FixtureRequest) -> MiniSizes:
    return MiniSizes() if request.param == "full" else MiniSizes.small()


@pytest.mark.parametrize("name", ["synth", "synth_val", "strong", "weak", "dev_test"])
def test_every_class_is_in_every_labelled_set(name, sizes):
    planned = plan_set(SETS[name], sizes, 42)
    assert {label for clip in planned for label in labels_of(clip.plan)} == set(DESED_CLASSES)


@pytest.mark.parametrize("name", list(SETS))
def test_a_set_has_its_size_and_names_once(name, sizes):
    planned = plan_set(SETS[name], sizes, 42)
    assert len({clip.name for clip in planned}) == len(planned) == getattr(sizes, name)


def test_plans_follow_the_seed():
    assert plan_set(SETS["weak"], MiniSizes.small(), 1) == plan_set(
        SETS["weak"], MiniSizes.small(), 1
    )
    assert plan_set(SETS["weak"], MiniSizes.small(), 1) != plan_set(
        SETS["weak"], MiniSizes.small(), 2
    )


def test_events_lie_in_their_clips(sizes):
    for clips in MINI_CLIP_SETS:
        for clip in plan_set(clips, sizes, 42):
            for event in clip.plan.events:
                assert 0 <= event.onset_s < event.offset_s <= clip.plan.duration_s
                assert round(event.onset_s, 3) == event.onset_s


def test_clips_overlap_and_differ():
    plans = [clip.plan for clips in MINI_CLIP_SETS for clip in plan_set(clips, MiniSizes(), 42)]
    assert sum(plan.channels == 2 for plan in plans) > 10
    assert sum(plan.duration_s < 10 for plan in plans) > 10
    assert sum(plan.duration_s > 10 for plan in plans) > 5
    overlapping = [
        plan
        for plan in plans
        if any(a.offset_s > b.onset_s for a, b in zip(plan.events, plan.events[1:], strict=False))
    ]
    assert len(overlapping) > len(plans) / 3


def test_one_clip_is_silent_and_one_without_events(sizes):
    silent = [
        (clips.name, clip)
        for clips in MINI_CLIP_SETS
        for clip in plan_set(clips, sizes, 42)
        if clip.plan.domain is None
    ]
    assert [name for name, _ in silent] == ["unlabelled"]
    empty = [clip for clip in plan_set(SETS["dev_test"], sizes, 42) if not labels_of(clip.plan)]
    assert len(empty) == 1
    assert f"{empty[0].name}\t\t\t\n" in table_text(SETS["dev_test"], tuple(empty))


def test_strong_tables_list_what_is_listed():
    planned = plan_set(SETS["strong"], MiniSizes(), 42)
    rows = [line.split("\t") for line in table_text(SETS["strong"], planned).splitlines()]
    assert rows[0] == ["filename", "onset", "offset", "event_label"]
    assert len(rows) - 1 == sum(event.listed for clip in planned for event in clip.plan.events)
    assert any(not event.listed for clip in planned for event in clip.plan.events)
    assert {row[3] for row in rows[1:]} == set(DESED_CLASSES)


def test_weak_tables_name_each_class_once():
    planned = plan_set(SETS["weak"], MiniSizes(), 42)
    lines = table_text(SETS["weak"], planned).splitlines()
    assert lines[0] == "filename\tevent_labels"
    assert len(lines) - 1 == len(planned)
    for line in lines[1:]:
        labels = line.split("\t")[1].split(",")
        assert labels == sorted(set(labels))
        assert set(labels) <= set(DESED_CLASSES)


def test_names_are_audioset_s():
    names = {youtube_name((42, 3, index)) for index in range(300)}
    assert len(names) == 300
    for name in names:
        found = re.fullmatch(r"Y[\w-]{11}_(\d+\.\d{3})_(\d+\.\d{3})\.wav", name)
        assert found, name
        assert float(found[2]) - float(found[1]) == 10


def test_the_demo_has_every_recording_of_the_real_split():
    names = tuple(recording.name for recording in plan_recordings(MiniSizes(), 42))
    assert names == MAESTRO_TRAIN_RECORDINGS + MAESTRO_VALIDATION_RECORDINGS


def test_a_recording_has_classes_of_its_scene():
    for recording in plan_recordings(MiniSizes(), 42):
        assert recording.scene == scene_of(recording.name)
        labels = {event.label for event in recording.plan.events}
        # Three of six, so that each class has recordings without it.
        assert labels < set(SCENE_CLASSES[recording.scene])
        assert recording.plan.duration_s > 10


@pytest.mark.parametrize("split", [MAESTRO_TRAIN_RECORDINGS, MAESTRO_VALIDATION_RECORDINGS])
def test_no_two_classes_are_always_heard_together(split):
    recordings = [r for r in plan_recordings(MiniSizes(), 42) if r.name in split]
    for scene, classes in SCENE_CLASSES.items():
        with_class = {
            frozenset(
                recording.name
                for recording in recordings
                if recording.scene == scene
                and any(event.label == label for event in recording.plan.events)
            )
            for label in classes
        }
        assert len(with_class) == len(classes)


def test_every_maestro_class_is_in_both_splits(sizes):
    recordings = list(plan_recordings(sizes, 42))
    for split in (MAESTRO_TRAIN_RECORDINGS, MAESTRO_VALIDATION_RECORDINGS):
        heard = {
            event.label
            for recording in recordings
            if recording.name in split
            for event in recording.plan.events
        }
        assert heard == set(MAESTRO_REAL_CLASSES)
    assert set(SCENE_CLASSES) == set(SCENES)
    assert {label for labels in SCENE_CLASSES.values() for label in labels} >= set(
        MAESTRO_SCORED_CLASSES
    )


def test_a_set_s_size_does_not_change_the_clips_before():
    larger = replace(MiniSizes(), synth=130)
    few = {clip.name: clip.plan for clip in plan_set(SETS["synth"], MiniSizes(), 42)}
    many = {clip.name: clip.plan for clip in plan_set(SETS["synth"], larger, 42)}
    assert few.items() <= many.items()
