"""Plans whose trials are acted by `fake_training`, so that they take no time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local import run
from local.config import load_config
from local.tuning.search_space import Dimension, Space
from local.tuning.storage import default_url
from local.tuning.training_stage import TuningPlan

ROOT = Path(__file__).resolve().parents[3]
SPACE = Space(
    (
        Dimension("opt.lr", "float", 1e-4, 1e-2),
        Dimension("net.n_RNN_cell", "categorical", choices=(8, 16)),
    )
)


@pytest.fixture
def make_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TuningPlan]:
    """A plan in a folder of its own; `script` says what its trials play."""

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def make(script: dict[str, Any] | None = None, **changes: Any) -> TuningPlan:
        log_dir = changes.pop("log_dir", tmp_path / "tuning")
        log_dir.mkdir(parents=True, exist_ok=True)
        if script is not None:
            (log_dir / "script.json").write_text(json.dumps(script))
        values = {
            "config": load_config(ROOT / "confs" / "mini.yaml"),
            "space": SPACE,
            "log_dir": log_dir,
            "storage": default_url(log_dir),
            "study_name": "tuning_train",
            "n_trials": 3,
            "pruning": False,
        }
        return TuningPlan(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def checkpoint(extracted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one epoch."""
    config = load_config(extracted, ["training.n_epochs=1", "energy.enabled=false"])
    folder = run.fit(config, run.RunOptions(str(tmp_path_factory.mktemp("run"))), test=False)
    (path,) = (folder / "checkpoints").glob("epoch*.ckpt")
    return path
