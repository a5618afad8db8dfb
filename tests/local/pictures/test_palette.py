"""A colour means one thing in all pictures."""

import ast
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv, to_rgb

from local.pictures import palette

ROOT = Path(__file__).resolve().parents[3]
NEUTRAL = {"black", "white", "grey", "crimson", "none"}


def is_orange(colour):
    hue, saturation, value = rgb_to_hsv(to_rgb(colour))
    return 0.04 < hue < 0.14 and saturation > 0.6 and value > 0.75


def test_orange_is_seen():
    assert is_orange("C1") and is_orange("tab:orange") and is_orange("#d98324")
    assert is_orange(hsv_to_rgb((0.08, 1, 1))) and not is_orange("C5") and not is_orange("C3")


def test_only_what_is_detected_is_orange():
    colours = {
        name: colour
        for name, value in vars(palette).items()
        if name.isupper()
        for colour in ([value] if isinstance(value, str) else value)
        if name not in ("AGES", "_DASHES")
    }
    assert is_orange(palette.DETECTED)
    assert [name for name, colour in colours.items() if is_orange(colour)] == ["DETECTED"]
    meant = [palette.DETECTED, palette.ANNOTATED, palette.SCORE]
    assert not {*map(to_rgb, meant)} & {*map(to_rgb, palette.COMPARED)}


def test_many_compared_lines_are_told_apart():
    styles = [tuple(palette.line_style(number).values()) for number in range(21)]
    assert len(set(styles)) == 21
    assert not any(is_orange(colour) for colour, _ in styles)


@pytest.mark.parametrize(
    "path",
    [
        path
        for top in ("local", "benchmarks")
        for path in sorted((ROOT / top).rglob("*.py"))
        if "matplotlib" in path.read_text("utf-8") and path.name != "palette.py"
    ],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_pictures_take_their_colours_from_the_palette(path):
    """A new picture that names a colour itself, or leaves it to matplotlib, is found here."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if text.startswith(("C0", "C1", "C2", "tab:")) or text in ("orange", "green", "blue"):
                found.append(f"line {node.lineno}: {text}")
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in (
            "plot",
            "step",
            "barh",
        ):
            named = {keyword.arg for keyword in node.keywords}
            if not named & {"color", "c", None}:
                found.append(f"line {node.lineno}: no colour")
    assert found == []


def test_pictures_are_found():
    assert (
        np.sum(["matplotlib" in p.read_text("utf-8") for p in (ROOT / "local").rglob("*.py")]) > 5
    )
