"""How many clips the published corpora for training have, for estimates before they are there.

Of MAESTRO real, clips of 10 s that begin every second in its 33 training recordings, about.
"""

from __future__ import annotations

from typing import Final

PUBLISHED_CLIPS: Final = {
    "maestro_real_train": 7_500,
    "synth_train": 10_000,
    "strong_train": 3_470,
    "weak_train": 1_578,
    "unlabeled_train": 14_412,
}
