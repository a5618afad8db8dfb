"""The summary at the beginning of each page, from which index pages are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from local.predict.pages.document import data_block

_VERSION = 1
_BEGIN = b'<!doctype html>\n<script type="application/json" id="summary">'
_END = b"</script>"
# Names have at most 4096 bytes, each at most six in JSON, and classes are a few dozen.
_MOST_BYTES = 1 << 20


class PageSummary(NamedTuple):
    """What an index says of a page.

    Attributes:
        name: of the recording.
        duration_s: its length.
        counts: label -> number of events; classes without events are absent.
    """

    name: str
    duration_s: float
    counts: Mapping[str, int]


def summary_text(name: str, duration_s: float, counts: Mapping[str, int]) -> str:
    """The element that `read_summary` reads."""
    value = {
        "version": _VERSION,
        "name": name,
        "duration_s": duration_s,
        "counts": dict(sorted(counts.items())),
    }
    return data_block("summary", value)


def read_summary(path: Path) -> PageSummary:
    """Read the summary of a page.

    Raises:
        ValueError: the file is not a page of this program.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        begin = file.read(len(_BEGIN))
        if begin != _BEGIN:
            raise ValueError(path)
        text, end, _ = file.read(_MOST_BYTES).partition(_END)
    try:
        value = json.loads(text)
        if not end or value["version"] != _VERSION:
            raise ValueError(path)
        counts = {str(label): int(number) for label, number in value["counts"].items()}
        return PageSummary(str(value["name"]), float(value["duration_s"]), counts)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(path) from None
