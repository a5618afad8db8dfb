"""In PYTHONPATH, lets a real process draw nothing, too (tests/undrawn.py), and those it starts.

Python imports this file as it starts; pictures are blank once the module that makes them is there.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import runpy
import sys
from pathlib import Path
from typing import Any

BLANK = Path(__file__).parents[1] / "undrawn.py"
DRAWING = "local.training.result_writers"


class Undrawn:
    """Finds that module once, and replaces its canvas as it has been imported."""

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if name != DRAWING:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec and spec.loader
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            runpy.run_path(str(BLANK))["draw_nothing"]()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Undrawn())
