"""A control group with a CPU quota, as containers have, made where this process may make one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PERIOD_US: Final = 100_000
_MOUNTS: Final = Path("/sys/fs/cgroup")
# The hierarchies of version 1 and 2, and the files of a quota there.
_HIERARCHIES: Final = (
    (_MOUNTS, ("cpu.max",)),
    (_MOUNTS / "cpu", ("cpu.cfs_period_us", "cpu.cfs_quota_us")),
    (_MOUNTS / "cpu,cpuacct", ("cpu.cfs_period_us", "cpu.cfs_quota_us")),
)


class QuotaError(Exception):
    """No control group can be made here."""


@contextmanager
def cpu_quota_group(cores: float) -> Iterator[tuple[str, ...]]:
    """A group with the time of some cores; yields a command that runs the one after it inside.

    Raises:
        QuotaError: none can be made.
    """
    folder = _make(cores)
    try:
        yield ("/bin/sh", "-c", f'echo $$ > "{folder}/cgroup.procs" && exec "$@"', "sh")
    finally:
        # Its processes have ended; the group follows a moment later.
        for _ in range(20):
            with suppress(OSError):
                folder.rmdir()
            if not folder.exists():
                break
            time.sleep(0.1)


def _make(cores: float) -> Path:
    quota = round(cores * _PERIOD_US)
    contents = {
        "cpu.max": f"{quota} {_PERIOD_US}",
        "cpu.cfs_period_us": str(_PERIOD_US),
        "cpu.cfs_quota_us": str(quota),
    }
    for mount, files in _HIERARCHIES:
        folder = mount / f"benchmarks-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            for name in files:
                if not (folder / name).exists():
                    raise FileNotFoundError(name)  # without the cpu controller
                (folder / name).write_text(contents[name])
        except OSError:
            with suppress(OSError):
                folder.rmdir()
            continue
        return folder
    raise QuotaError(
        "no control group with a CPU quota can be made here; run it as root, or in a container "
        "with --cpus"
    )
