"""Longer clips that are cropped at random cannot have pseudo-labels of their beginning."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from local.config import load_config
from local.data.loading.pseudo_labels import add_pseudo_labels

CONF = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"


@pytest.mark.parametrize(
    ("length_s", "in_windows", "is_refused"),
    [(10.6, False, True), (10.5, False, False), (25.0, True, False)],
)
def test_only_windows_of_longer_clips_are_taught(
    length_s: float, in_windows: bool, is_refused: bool, tmp_path: Path
) -> None:
    sets = [f"training.pseudo_labels={tmp_path}", "losses.pseudo=1"]
    corpus = SimpleNamespace(stem="own", name="own", title="own", trains_on_windows=in_windows)
    clips = {"a": 10.0, "b": length_s}
    part = SimpleNamespace(corpus=corpus, clip_ids=tuple(clips), durations_s=clips)
    problems = add_pseudo_labels({}, [part], load_config(CONF, sets))
    found = [one for one in problems if "own crops 1 clip of more than 10 s at random (b)" in one]
    assert len(found) == is_refused and all("set long: windows" in one for one in found)
