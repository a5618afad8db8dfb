"""Names of AudioSet's classes, and maps from them to the classes of other corpora; without PyTorch.

The lists are in `classes.json`, with their sources. Heads of published detectors have their classes
in the order of names sorted as text.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, Final

STRONG_SIZE: Final = 447
"""Classes that occur in the strongly labelled training set, and outputs of a detector."""
WEAK_SIZE: Final = 527
"""Classes of clips."""
EVALUATION_SIZE: Final = 416
"""Classes that occur in the strongly labelled evaluation set."""
# Spellings of the names of maps, besides those of the file.
_ALIASES: Final = {"tut2017": "tut_sed_2017", "tut_2017": "tut_sed_2017", "urbansed": "urban_sed"}


@cache
def _content() -> dict[str, Any]:
    text = resources.files("desed_task.audioset").joinpath("classes.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def strong_classes() -> tuple[str, ...]:
    """The 447 classes of detectors, in the order of their outputs."""
    return tuple(_content()["strong"])


def map_names() -> tuple[str, ...]:
    """Names of the corpora that classes are mapped to, as users give them."""
    return tuple("tut2017" if name == "tut_sed_2017" else name for name in _content()["maps"])


def class_map(name: str) -> dict[str, tuple[str, ...]] | None:
    """The classes of another corpus, each with those of AudioSet that it is made of.

    Args:
        name: of the corpus: "desed", "urban_sed" or "tut2017", in upper or lower case.

    Returns:
        None for other names.
    """
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    found = _content()["maps"].get(_ALIASES.get(plain, plain))
    return None if found is None else {label: tuple(parts) for label, parts in found.items()}
