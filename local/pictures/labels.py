"""Names of classes as pictures show them."""

from __future__ import annotations

from typing import Final

# In pictures whose layout is made by hand.
LONGEST_LABEL: Final = 28
# Beside one panel that fills its picture.
LONGEST_OF_PANEL: Final = 48


def short_label(label: str, longest: int = LONGEST_LABEL) -> str:
    """A class as pictures show it: of a longer name, the beginning."""
    return label if len(label) <= longest else f"{label[: longest - 1]}…"
