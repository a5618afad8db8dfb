"""Classes by name, and classes of AudioSet mapped to those of other corpora."""

from __future__ import annotations

import numpy as np
import pytest

from desed_task.audioset.classes import class_map, strong_classes
from desed_task.errors import InputError
from desed_task.inference.scorers.class_columns import ClassColumns, wanted_classes
from desed_task.labels import CLASSES, near_labels, split_labels

ALL = strong_classes()


@pytest.mark.parametrize("name", ["desed", "urban_sed", "tut2017"])
def test_a_mapped_class_has_the_highest_score_of_its_parts(name):
    rows = np.random.default_rng(1).random((7, len(ALL))).astype(np.float32)
    columns = ClassColumns.among(ALL, wanted_classes(name, ALL))
    found = columns.of(rows)
    expected = {
        label: rows[:, [ALL.index(part) for part in parts]].max(axis=1)
        for label, parts in class_map(name).items()
    }
    assert columns.labels == tuple(expected)
    np.testing.assert_array_equal(found, np.stack([*expected.values()], axis=1))


def test_all_classes_are_the_scores_themselves():
    rows = np.ones((3, 5), np.float32)
    assert ClassColumns.all_of("abcde").of(rows) is rows


def test_names_with_commas_are_told_apart():
    names = wanted_classes("Dog, Bell,Accelerating, revving, vroom ,Beep, bleep", ALL)
    assert [one.label for one in names] == [
        "Dog",
        "Bell",
        "Accelerating, revving, vroom",
        "Beep, bleep",
    ]
    assert wanted_classes(["Beep, bleep"], ALL)[0].label == "Beep, bleep"
    every = ",".join(ALL)
    assert split_labels(every, ALL) == list(ALL)
    assert split_labels(", ".join(reversed(ALL)), ALL) == list(reversed(ALL))
    assert split_labels("Bells,Dog,", ALL) == ["Bells", "Dog"]


def test_a_corpus_and_a_class_go_together():
    found = wanted_classes("desed,Music", ALL)
    assert [one.label for one in found] == [*CLASSES[:10], "Music"]


def test_names_of_our_own_classes_are_theirs():
    """Of both kinds of detectors: the same label, made of parts or there itself."""
    wanted = wanted_classes("desed", [*CLASSES, *ALL])
    own, other = (ClassColumns.among(classes, wanted) for classes in (CLASSES, ALL))
    assert own.labels == other.labels == CLASSES[:10]
    assert own.groups[2] == (2,) and len(other.groups[2]) == 4


@pytest.mark.parametrize(
    ("chosen", "known", "message"),
    [
        ("Dgo", ALL, r"unknown class 'Dgo'; similar: Dog .of 447., or give a corpus .*desed"),
        ("Dgo", CLASSES, r"unknown class 'Dgo'; known: Alarm_bell_ringing, Blender"),
        ("Dog,Dog", ALL, "names 'Dog' twice"),
        ("desed,Cat", ALL, "names 'Cat' twice"),
        ("", ALL, "no class in ''"),
        (" , ", ALL, "no class in "),
        ([], ALL, "no class in "),
        ("Dog,,Qwxz", ALL, "unknown class 'Qwxz'; none of the 447 known ones is similar"),
        ("dog", ALL, "unknown class 'dog'; similar: Dog"),
    ],
)
def test_what_is_no_class_is_told(chosen, known, message):
    if chosen == "desed,Cat":
        chosen = "Cat,desed"
    with pytest.raises(InputError, match=message):
        wanted_classes(chosen, known)


def test_similar_labels():
    assert near_labels("church bells", ALL) == "similar: Church bell (of 447)"
    assert near_labels("acelerating", ALL).startswith("similar: Accelerating, revving, vroom; ")
    assert near_labels("x", ["a", "b"]) == "known: a, b"
