"""Time training steps beside busy processes, with other numbers of threads and ways to wait.

Rows are named threads/NETWORK/PLACE/SETTING: NETWORK is that of the mini corpus, or `published`,
the configured one; PLACE is alone, beside so many busy processes, or in a control group with a CPU
quota. `thread_lines` sets them in relation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml

from benchmarks.bench import Bench, Row
from benchmarks.macs import network_macs
from benchmarks.made import batch_rows
from benchmarks.quota import QuotaError, cpu_quota_group
from benchmarks.thread_processes import Limits, Loops, Setting, busy_processes
from desed_task.atomic_files import write_text_atomic
from desed_task.parallel import available_cores
from local.cli.threads import SPIN_CHOICES, THREAD_VARIABLES
from local.config import RecipeConfig, load_config
from local.sed_trainer_pretrained import SEDTask4

NAME: Final = "threads"
ALONE: Final = "alone"
N_BUSY: Final = (0, 1, 2, 4)
MINI: Final = Path(__file__).parents[1] / "confs" / "mini.yaml"
# Of the names of rows: whose time the others are compared with.
_ONE, _DEFAULT = "one", "default"


def settings(n_threads: int) -> list[Setting]:
    """One thread; what commands set, with which waiting threads sleep at once; waiting threads that
    spin for 25 us, and those that are left to the libraries.
    """
    number = dict.fromkeys(THREAD_VARIABLES, str(n_threads))
    brief = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
    return [
        Setting(_ONE, dict.fromkeys(THREAD_VARIABLES, "1")),
        Setting("set", number),
        Setting("brief", {**number, **brief}),
        Setting(_DEFAULT, number, SPIN_CHOICES, as_found=True),
    ]


def run(bench: Bench) -> None:
    """Add the rows; only if they are named, as they take minutes and keep all cores busy."""
    if any(name.split("/")[0] == NAME for name in bench.options.only):
        with bench.skipping(NAME):
            for network, config in _networks(bench).items():
                _Timed(bench, network, config).run()


def _networks(bench: Bench) -> dict[str, RecipeConfig]:
    if bench.options.quick:
        return {"quick": bench.config}
    asked = any(name.startswith(f"{NAME}/published") for name in bench.options.only)
    return {"published": bench.config} if asked else {"mini": load_config(MINI, ())}


class _Timed:
    """Times one network in all places.

    Args:
        bench: receives the rows.
        network: its name in them.
        config: its configuration.
    """

    def __init__(self, bench: Bench, network: str, config: RecipeConfig) -> None:
        self.bench, self.prefix = bench, f"{NAME}/{network}"
        quick, repeats = bench.options.quick, bench.options.repeats
        self.limits = Limits(1, 0.2, 30.0) if quick else Limits(repeats or 3, 2.0, 20.0)
        self.path = bench.folder / f"{NAME}_{network}.yaml"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(self.path, yaml.safe_dump(config.dump()))
        self.n_clips = sum(batch_rows(config))
        student = SEDTask4(config).sed_student
        self.macs = 4 * self.n_clips * network_macs(student, config, bench.made.n_tokens)

    def run(self) -> None:
        """Add all rows."""
        quick, n_threads = self.bench.options.quick, torch.get_num_threads()
        used = settings(n_threads)
        # With one thread none waits for another.
        used = used[:2] if quick else used[:1] if n_threads == 1 else used
        with Loops(self.path, used, self.limits) as loops:
            for n_busy in N_BUSY[: 2 if quick else None]:
                with busy_processes(n_busy):
                    for _ in range(self.limits.rounds):
                        loops.turns(f"beside-{n_busy}" if n_busy else ALONE)
        self._keep(loops)
        self._run_in_quota(quick)

    def _run_in_quota(self, quick: bool) -> None:
        """The same where a part of the cores may be used, which commands notice."""
        cores = available_cores()
        quota = max(1, min(4, cores // 2))
        place = f"quota-{quota}-of-{cores}"
        if quick or quota >= cores:
            why = "not in a quick run" if quick else "there is one core only"
            self.bench.keep(Row(f"{self.prefix}/{place}", skipped=why))
            return
        one, chosen, *_, default = settings(cores)
        chosen = chosen._replace(variables={}, without=THREAD_VARIABLES)
        try:
            with cpu_quota_group(quota) as enter:
                with Loops(self.path, [one, chosen, default], self.limits, enter) as loops:
                    for _ in range(self.limits.rounds):
                        loops.turns(place)
                self._keep(loops)
        except QuotaError as error:
            self.bench.keep(Row(f"{self.prefix}/{place}", skipped=str(error)))

    def _keep(self, loops: Loops) -> None:
        for place, name in dict.fromkeys((*loops.times, *loops.slow)):
            row, key = f"{self.prefix}/{place}/{name}", (place, name)
            if key in loops.slow:  # even if it had times before
                self.bench.keep(Row(row, skipped=loops.slow[key]))
                continue
            low, median, high = np.quantile(loops.times[key], (0.25, 0.5, 0.75)).tolist()
            n_calls = len(loops.times[key])
            spread = (high - low) / median
            self.bench.keep(Row(row, median, spread, n_calls, self.n_clips, self.macs))


def thread_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """A table of the rows: times, and ratios to one thread and to what libraries do, per place."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        part, *rest = row["name"].split("/")
        if part == NAME and len(rest) == 3:
            found.setdefault("/".join(rest[:2]), {})[rest[2]] = row
    if not found:
        return []
    lines = [f"{'seconds of a step; against one thread; against the default':40}"]
    for place, by_setting in found.items():
        for name, row in by_setting.items():
            if row["skipped"]:
                lines.append(f"  {place:24}{name:10}{row['skipped']}")
                continue
            ratios = "".join(
                f"{_ratio(row, by_setting.get(other)):>8}" for other in (_ONE, _DEFAULT)
            )
            lines.append(f"  {place:24}{name:10}{row['seconds']:8.3f}{ratios}")
    return lines


def _ratio(row: Mapping[str, Any], other: Mapping[str, Any] | None) -> str:
    if other is None or other["skipped"]:
        return "-"
    return f"{row['seconds'] / other['seconds']:.2f}"
