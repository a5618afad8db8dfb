"""What each shard of an archive has come to, for `--merge`: begun, finished, and what it failed at.

A small file per shard beside the listing.
"""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from desed_task.atomic_files import write_json_atomic
from local.predict.archives.shards import Shard
from local.predict.archives.stored_listing import ArchiveListing


class ShardState(NamedTuple):
    """What a shard has come to.

    Attributes:
        shard: the shard.
        begun_s: when it was begun last, on the clock of its machine.
        host: that machine.
        finished: whether it has processed all of its recordings, or failed at them.
        faults: name of a recording's results -> why it has none.
        settings: what its events follow from, such as the threshold -> its value; empty for a
            shard without recordings.
    """

    shard: Shard
    begun_s: float
    host: str
    finished: bool
    faults: Mapping[str, str]
    settings: Mapping[str, str]

    def __str__(self) -> str:
        begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.begun_s))
        return f"{'finished' if self.finished else 'not finished'}, begun {begun} on {self.host}"


class StateFile:
    """The state of a shard on disk.

    Args:
        listing: the archive's listing.
        shard: the shard.
    """

    def __init__(self, listing: ArchiveListing, shard: Shard) -> None:
        self._path = listing.path.with_suffix(f".{shard.number}-{shard.total}.json")
        self._listing = listing
        self._begun_s = time.time()
        self._shard = shard
        self._settings: Mapping[str, str] = {}
        self._before: ShardState | None = None

    def begin(self, settings: Mapping[str, str]) -> None:
        """Note that the shard is begun, perhaps again.

        Args:
            settings: see `ShardState`.
        """
        before = states_of(self._listing).get(self._shard.number)
        self._before = before if before and before.shard == self._shard else None
        self._settings = settings
        self._write(False, {})

    def finish(self, faults: Mapping[str, str]) -> None:
        """Note that the shard is finished, and why recordings have no results."""
        self._write(True, faults)

    def mixed(self, *, resumes: bool = False) -> str | None:
        """A warning if results so far were computed with different settings.

        Args:
            resumes: whether this run keeps the results of an earlier one of the shard.
        """
        before = {} if self._before is None else self._before.settings
        if resumes and before and (differ := _different(before, self._settings)):
            return (
                f"shard {self._shard} was begun with another {' and another '.join(differ)}, and "
                "its results of then stay; run it again without --skip_existing"
            )
        return mixture_text(states_of(self._listing))

    def _write(self, finished: bool, faults: Mapping[str, str]) -> None:
        content = {
            "listed_at": self._listing.listed_at,
            "begun_s": self._begun_s,
            "host": platform.node(),
            "finished": finished,
            "faults": dict(faults),
            "settings": dict(self._settings),
        }
        write_json_atomic(self._path, content)


def states_of(listing: ArchiveListing) -> dict[int, ShardState]:
    """Shard number -> state, for the number of shards that was begun last; empty without shards.

    Shards of an earlier listing, which had other recordings, do not count.

    Args:
        listing: the archive's listing.
    """
    found: list[ShardState] = []
    stem = listing.path.stem
    pattern = re.compile(re.escape(stem) + r"\.(\d+)-(\d+)\.json")
    for path in listing.path.parent.glob(f"{stem}.*.json"):
        if named := pattern.fullmatch(path.name):
            # A file that was cut or edited counts as one that is not there.
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                content = json.loads(path.read_text("utf-8"))
                if content["listed_at"] != listing.listed_at:
                    continue
                found.append(
                    ShardState(
                        Shard(int(named[1]), int(named[2])),
                        float(content["begun_s"]),
                        str(content["host"]),
                        bool(content["finished"]),
                        {str(name): str(why) for name, why in content["faults"].items()},
                        {str(name): str(of) for name, of in content.get("settings", {}).items()},
                    )
                )
    if not found:
        return {}
    count = max(found, key=lambda state: state.begun_s).shard.total
    return {state.shard.number: state for state in found if state.shard.total == count}


def mixture_text(states: Mapping[int, ShardState]) -> str | None:
    """A warning if shards were computed with different settings, which one table would mix.

    Args:
        states: those of `states_of`.
    """
    told = [state for _, state in sorted(states.items()) if state.settings]
    for state in told[1:]:
        first = told[0]
        if differ := _different(first.settings, state.settings):
            return (
                f"shard {state.shard} was computed with another {' and another '.join(differ)} "
                f"than shard {first.shard}, so the table of all events mixes them; run shards "
                "with equal settings again, without --skip_existing"
            )
    return None


def _different(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Names of the settings that differ."""
    return [name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name)]
