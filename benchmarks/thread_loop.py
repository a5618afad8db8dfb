"""A process that trains while `benchmarks.threads` times it: steps of one batch, on request.

    python -m benchmarks.thread_loop FILE      # a configuration

It sets its threads as commands do, from its environment. For each line "STEPS SECONDS" on standard
input it runs steps until one of the two is reached, and prints the seconds of each as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from pathlib import Path

from local.cli.threads import threads_set

WARM_UP = 2


def main(path: Path, *, as_commands: bool) -> None:
    """Answer requests until standard input closes.

    Args:
        path: the configuration.
        as_commands: whether to set threads and spinning as commands do, or leave all as it is.
    """
    if as_commands:
        with threads_set(None):
            _serve(path)
    else:
        _serve(path)


def _serve(path: Path) -> None:
    import torch  # not before its threads are set

    from benchmarks.bench import Bench, Options
    from benchmarks.machine import Machine
    from benchmarks.made import Made, Sizes, batch_rows
    from benchmarks.step import Step
    from benchmarks.timing import Stopwatch
    from local.config import load_config

    config, watch = load_config(path, ()), Stopwatch(torch.device("cpu"))
    made = Made(config, Sizes.of_steps(1, batch_rows(config), 0.01), path.parent)
    machine = Machine(watch, small=True)
    step = Step(Bench(Options(), watch, machine, config, made, path.parent, lambda row: None))
    for _ in range(WARM_UP):
        step.whole()
    print(json.dumps({"threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        most, budget_s = line.split()
        begun, times_s = time.perf_counter(), []
        while len(times_s) < int(most) and time.perf_counter() - begun < float(budget_s):
            start = time.perf_counter()
            step.whole()
            times_s.append(time.perf_counter() - start)
        print(json.dumps(times_s), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--as_found", action="store_true", help="set no threads")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    with contextlib.suppress(BrokenPipeError):  # nobody is there to hear it any more
        main(given.path, as_commands=not given.as_found)
