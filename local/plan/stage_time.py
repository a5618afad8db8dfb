"""How long a stage has taken, kills included: `time.json` in its folder.

While a stage runs, the file says since when. After a kill, it is taken to have run until it last
wrote something.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from desed_task.atomic_files import write_json_atomic

TIME_FILE: Final = "time.json"


def seconds_of(folder: Path) -> float | None:
    """How long a stage has taken so far; None if that is not known.

    Args:
        folder: of the stage, which does not run.
    """
    total, since = _stored(folder)
    if total is None or since is None:
        return total
    return total + max(0.0, _last_write(folder) - since)


def begin_time(folder: Path) -> None:
    """Record that a stage begins or resumes."""
    _write(folder, seconds_of(folder) or 0.0, since=time.time())


def end_time(folder: Path, seconds: float) -> None:
    """Record that it has ended, after so many seconds since `begin_time`."""
    _write(folder, (_stored(folder)[0] or 0.0) + seconds)


def end_killed_time(folder: Path) -> None:
    """Record that it had ended when the plan was killed."""
    _write(folder, seconds_of(folder) or 0.0)


def _stored(folder: Path) -> tuple[float | None, float | None]:
    """Seconds before, and since when it runs; None each for what is not known."""
    try:
        found = json.loads((folder / TIME_FILE).read_text(encoding="utf-8"))
        since = found.get("since")
        return float(found["seconds"]), None if since is None else float(since)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None, None


def _write(folder: Path, seconds: float, since: float | None = None) -> None:
    known = {"seconds": round(seconds, 1)}
    write_json_atomic(folder / TIME_FILE, known if since is None else {**known, "since": since})


def _last_write(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != TIME_FILE)
    return max((path.stat().st_mtime for path in files), default=0.0)
