"""One of several machines: joins the study of a journal, with a folder that the other has too.

python one_tuner.py LOG_DIR JOURNAL
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from local.config import load_config
from local.tuning.search_space import Dimension, Space
from local.tuning.training_stage import Tuner, TuningPlan
from local.tuning.workers.device_slots import choose_slots

ROOT = Path(__file__).resolve().parents[3]
N_TRIALS, WAIT_S = 8, 30


def main(log_dir: Path, journal: str) -> None:
    """Wait for the other, then run trials."""
    space = Space(
        (
            Dimension("opt.lr", "float", 1e-4, 1e-2),
            Dimension("net.n_RNN_cell", "categorical", choices=(8, 16)),
        )
    )
    config = load_config(ROOT / "confs" / "mini.yaml")
    plan = TuningPlan(config, space, log_dir, journal, "tuning_train", N_TRIALS, pruning=False)
    one = Tuner(plan, choose_slots(1, 1), "fake_training:train")
    (log_dir / f"here-{os.getpid()}").touch()
    end = time.monotonic() + WAIT_S
    while len(list(log_dir.glob("here-*"))) < 2:
        assert time.monotonic() < end, "the other does not come"
        time.sleep(0.02)
    one.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
