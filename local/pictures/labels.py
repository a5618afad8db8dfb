"""Names of classes in pictures."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 40
_END: Final = 12


def shown_label(label: str, longest: int = LONGEST) -> str:
    """A class's name for Matplotlib: without its middle if it is long, and never a formula."""
    if len(label) > longest:
        label = f"{label[: longest - _END - 3]}...{label[-_END:]}"
    return label.replace("$", r"\$")
