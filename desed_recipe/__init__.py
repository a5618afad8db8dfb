"""The console commands: `desed-train` is train_pretrained.py, and so on.

In a checkout the scripts, `local` and confs/ are at its top; in a wheel they are inside this
package, as `local` is too common a name for site-packages. Importing this package makes them
importable in both:

    import desed_recipe
    from local.config import load_config
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import partial

_HERE = os.path.dirname(os.path.abspath(__file__))
HOME = _HERE if os.path.isdir(os.path.join(_HERE, "local")) else os.path.dirname(_HERE)
"""Folder of `local`, the scripts and confs/."""

# First, as other packages named `local` may be installed.
if sys.path[:1] != [HOME]:
    sys.path.insert(0, HOME)


def run(script: str) -> int:
    """Run a script as its console command does and return its exit status.

    Args:
        script: its name without .py.
    """
    from local.cli import interrupts  # first: Ctrl-C while the rest is imported

    interrupts.leave_at_once()
    try:
        from desed_task.errors import CONSOLE_COMMANDS, STARTED_BY_CONSOLE

        os.environ[STARTED_BY_CONSOLE] = CONSOLE_COMMANDS[f"{script}.py"]
        status: int = importlib.import_module(script).main()
    finally:
        interrupts.raise_again()
    return status


generate = partial(run, "generate_dcase_task4_2024")
extract = partial(run, "extract_embeddings")
train = partial(run, "train_pretrained")
predict = partial(run, "predict")
tune = partial(run, "optuna_pretrained")
summarize = partial(run, "summarize_runs")
submit = partial(run, "make_submission")
