"""Labels that training adds to strong and weak tables."""

from __future__ import annotations

import numpy as np

from desed_task.dataio.annotations import WeakTable
from desed_task.dataio.label_files.aliases import add_weak_aliases
from desed_task.labels import Vocabulary


def test_clips_with_a_class_have_the_one_that_contains_it():
    target = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
    words = Vocabulary(("Sprache", "Chor", "Laut", "Ton"))
    table = WeakTable(("ä.wav", "b.wav", "c.wav"), target, words)
    aliases = (("Sprache", "Laut"), ("Laut", "Ton"), ("fremd", "Ton"))
    found = add_weak_aliases(table, aliases).target
    # An alias of an alias is not followed, as in strong tables.
    assert found.tolist() == [
        [True, False, True, False],
        [False, True, True, True],
        [False, False, False, False],
    ]
    assert table.target.sum() == 3  # the truth stays
