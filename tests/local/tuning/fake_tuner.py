"""optuna_pretrained.py whose trials are acted by `fake_training`.

FAKE_PATIENCE_S is how long it waits for a server.
"""

from __future__ import annotations

import functools
import os
import sys

import optuna_pretrained
from local.tuning import storage, training_stage

TARGET = "fake_training:train"


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    storage.PATIENCE_S = float(os.environ.get("FAKE_PATIENCE_S", storage.PATIENCE_S))
    training_stage.Tuner = functools.partial(training_stage.Tuner, target=TARGET)
    return optuna_pretrained.main(argv)


if __name__ == "__main__":
    sys.exit(main())
