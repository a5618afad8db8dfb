"""The names of AudioSet's classes, and the maps to those of other corpora."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from desed_task.audioset.classes import class_map, map_names, strong_classes
from desed_task.labels import DESED_CLASSES

ROOT = Path(__file__).parents[3]


def test_classes_are_in_the_order_of_published_heads():
    classes = strong_classes()
    assert len(classes) == len({*classes}) == 447 and list(classes) == sorted(classes)
    assert classes[:2] == ("Accelerating, revving, vroom", "Air brake")


def test_lists_and_maps_are_those_of_the_source():
    path = ROOT.parent / "shared" / "audioset_classes.json"
    if not path.is_file():
        pytest.skip("the lists are not beside this checkout")
    source = json.loads(path.read_text("utf-8"))
    assert list(strong_classes()) == source["train_447"]
    for name, classes in source["maps"].items():
        found = class_map(name)
        assert {label: list(parts) for label, parts in found.items()} == classes


@pytest.mark.parametrize("name", ["desed", "urban_sed", "tut2017", "DESED", "tut_sed_2017"])
def test_maps_are_made_of_known_classes(name):
    found = class_map(name)
    assert {part for parts in found.values() for part in parts} <= {*strong_classes()}


def test_the_map_to_desed_has_desed_classes():
    assert tuple(class_map("desed")) == DESED_CLASSES
    assert class_map("Desert") is None and class_map("") is None
    assert all(class_map(name) for name in map_names())


def test_lists_need_no_torch():
    program = (
        "import sys, desed_task.audioset.classes as c, desed_task.audioset.released_files as r;"
        "c.class_map('desed'); r.detectors(); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
