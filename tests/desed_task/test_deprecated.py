"""Imports of the last version work from their old place, with a warning that names the new one."""

import importlib
import sys

import pytest

from desed_task import inference


def test_the_detectors_old_place_warns(monkeypatch):
    monkeypatch.delitem(sys.modules, "desed_task.detector", raising=False)
    with pytest.warns(DeprecationWarning, match=r"from desed_task\.inference import"):
        old = importlib.import_module("desed_task.detector")
    assert old.SoundEventDetector is inference.SoundEventDetector
