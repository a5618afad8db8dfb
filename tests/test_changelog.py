"""CHANGELOG.md: its form, its version, links, and the map of moved import paths."""

from __future__ import annotations

import importlib
import importlib.util
import re
import warnings

import pytest

import desed_task
from tests.markdown_pages import ROOT, SPAN, Page

PAGE = Page(ROOT / "CHANGELOG.md")
VERSIONS = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d|unreleased)$", PAGE.text, re.M)
MOVED = [
    (SPAN.findall(before)[0], SPAN.findall(now)[0], names)
    for table in PAGE.tables()
    if table.head == ("before", "now", "names")
    for before, now, names in table.rows
]
HERE = [
    (SPAN.findall(module)[0], SPAN.findall(names))
    for table in PAGE.tables()
    if table.head == ("what", "module", "names")
    for _, module, names in table.rows
]
# Warn and say where their names are; the page names each of them below Deprecated.
ALIASES = ("desed_task.detector",)


def test_versions_are_in_order_and_the_first_is_ours():
    assert PAGE.headings("##") == [f"[{version}] - {date}" for version, date in VERSIONS]
    assert VERSIONS[0][0] == desed_task.__version__
    numbers = [tuple(map(int, version.split("."))) for version, _ in VERSIONS]
    assert numbers == sorted(set(numbers), reverse=True)
    groups = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(PAGE.headings("###")) <= {*groups, "Moved import paths"}


def test_links_lead_somewhere():
    for link in PAGE.links():
        path, _, anchor = link.partition("#")
        target = ROOT / (path or PAGE.name)
        assert target.exists(), link
        assert not anchor or anchor in Page(target).anchors(), link


def test_both_trees_are_mapped():
    assert len(MOVED) > 100 and len(HERE) > 10
    assert {before.split(".")[0] for before, _, _ in MOVED} == {"desed_task", "local"}
    # A name has one new place.
    pairs = [(before, name) for before, _, names in MOVED for name in SPAN.findall(names)]
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize(("before", "now", "names"), MOVED, ids=lambda text: text[:50])
def test_what_has_moved_is_where_the_map_says(before, now, names):
    module = importlib.import_module(now)
    left = getattr(importlib.import_module(before), "__dict__", {}) if exists(before) else {}
    for entry in names.split(", "):
        old, new = (*SPAN.findall(entry), *SPAN.findall(entry))[:2]
        assert hasattr(module, new), f"{now} has no {new}"
        assert old == new or not hasattr(module, old), f"{now} still has {old}"
        assert old not in left, f"{before} still has {old}"


@pytest.mark.parametrize("before", sorted({before for before, _, _ in MOVED}))
def test_old_modules_are_gone_or_packages_that_the_page_names(before):
    if exists(before):
        assert importlib.util.find_spec(before).submodule_search_locations
        assert f"`{before}`" in PAGE.text.split("### Moved import paths")[1].split("####")[0]


@pytest.mark.parametrize(("module", "names"), HERE)
def test_what_users_of_the_published_code_look_for_is_there(module, names):
    assert names
    assert [name for name in names if not hasattr(importlib.import_module(module), name)] == []


@pytest.mark.parametrize("alias", ALIASES)
def test_deprecated_aliases_warn_and_are_told_of(alias):
    deprecated = PAGE.text.split("### Deprecated")[1].split("###")[0]
    assert f"`{alias}` warns" in deprecated
    moved = SPAN.findall(deprecated.split(f"`{alias}`")[1])[0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = importlib.reload(importlib.import_module(alias))
    assert any(moved in str(warning.message) for warning in caught)
    _, place, _, name = moved.split()
    assert getattr(module, name) is getattr(importlib.import_module(place), name)


def exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor does the package that it was in
        return False
