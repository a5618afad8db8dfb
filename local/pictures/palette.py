"""Colours of pictures. A colour stands for one thing in all of them.

Orange is what was detected, green what is annotated, blue the scores of a network. What is
compared with each other, such as systems, trials or classes, has none of these colours.
"""

from __future__ import annotations

DETECTED = "C1"  # orange
ANNOTATED = "C2"  # green
SCORE = "C0"  # blue
THRESHOLD = "grey"
# Right, and the causes of errors: other times, another class, nothing there.
RIGHT = "0.78"
INEXACT = "#56b4c4"
CONFUSED = "#8b6bb1"
NOTHING_THERE = "#c0392b"
# Compared things, in their order: purple, cyan, red, brown, pink, olive.
COMPARED = ("C4", "C9", "C3", "C5", "C6", "C8")
# One of them that stands out, such as the best.
CHOSEN = "black"
OTHER = "tab:grey"
# Later trials are darker.
AGES = "Purples"
_DASHES = ("-", "--", ":", "-.")


def line_style(number: int) -> dict[str, str]:
    """Colour and dashes of the `number`-th of many compared lines, which tell all apart."""
    dashes = _DASHES[number // len(COMPARED) % len(_DASHES)]
    return {"color": COMPARED[number % len(COMPARED)], "linestyle": dashes}
