"""Classes that rows of 0 leave without labels are named."""

from __future__ import annotations

import pytest

from local.config import load_config
from local.training.announcements import untrained_lines
from tests.published_task import TASK


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("[8,5,6,3,2]", None),
        ("[8,0,0,0,2]", "Alarm_bell_ringing"),
        ("[0,5,6,3,2]", "cutlery and dishes"),
    ],
)
def test_classes_without_labels_in_a_batch_are_named(rows, named):
    task = load_config("confs/mini.yaml", [f"training.batch_size={rows}"]).detection_task
    assert task.classes == TASK.classes
    assert [named in line for line in untrained_lines(task)] == [True] * bool(named)
