"""Who may import whom, and how long files and functions may be (DESIGN: rooms and habits)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "desed_task").rglob("*.py"))
RECIPE = sorted((ROOT / "local").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
SCRIPTS = sorted(ROOT.glob("*.py"))
SCRIPT_NAMES = {path.stem for path in SCRIPTS}
# What only the recipe knows; `lightning` and its parts are PyTorch Lightning under other names.
RECIPE_ONLY = {"pytorch_lightning", "lightning", "lightning_fabric", "pydantic", "yaml", "local"}


def imported(source: str, package: str = "") -> set[str]:
    """Top-level names of every import in `source`, those inside functions included.

    `package` is the dotted package of the file, which relative imports start from.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((package if node.level else node.module).split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            names.add(str(getattr(node.args[0], "value", "?")).split(".")[0])
    return names


def functions(source: str) -> list[tuple[str, int]]:
    """(name, lines from `def` to the end) of each function; its decorators do not count."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [
        (node.name, node.end_lineno - node.lineno + 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, kinds)
    ]


def unsafe_loads(source: str) -> list[int]:
    """Lines of `torch.load` that could run what is in the file."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "torch.load"
        and not any(
            k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords
        )
    ]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parts[:-1])


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import local.config as c", {"local"}),
        ("def f():\n    from yaml import safe_load", {"yaml"}),
        ("from . import batch\nfrom ..labels import x", {"desed_task"}),
        ("import importlib\nimportlib.import_module('local.run')", {"importlib", "local"}),
        ("# import yaml\n'import yaml'", set()),
    ],
)
def test_imports_are_seen(source, names):
    assert imported(source, "desed_task.dataio") == names


def test_long_functions_and_unsafe_loads_are_seen():
    assert functions("@d\ndef f():\n    pass\n\nclass C:\n    async def g(s):\n        1\n") == [
        ("f", 2),
        ("g", 2),
    ]
    source = "torch.load(a)\ntorch.load(a, weights_only=False)\ntorch.load(a, weights_only=True)"
    assert unsafe_loads(source) == [1, 2]


def test_the_rooms_are_not_empty():
    assert len(LIBRARY) > 20
    assert len(RECIPE) > 20
    assert len(BENCHMARKS) > 5
    assert {"train_pretrained", "extract_embeddings", "generate_dcase_task4_2024"} <= SCRIPT_NAMES
    assert "make_submission" in SCRIPT_NAMES


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_the_library_knows_no_recipe(path):
    assert not imported(path.read_text(), package_of(path)) & (RECIPE_ONLY | SCRIPT_NAMES)


@pytest.mark.parametrize("path", RECIPE, ids=relative)
def test_the_recipe_imports_no_script(path):
    assert not imported(path.read_text(), package_of(path)) & SCRIPT_NAMES


@pytest.mark.parametrize("path", LIBRARY + RECIPE + SCRIPTS, ids=relative)
def test_nothing_needs_the_benchmarks(path):
    assert "benchmarks" not in imported(path.read_text(), package_of(path))


@pytest.mark.parametrize("path", BENCHMARKS, ids=relative)
def test_benchmarks_import_no_script(path):
    assert not imported(path.read_text(), package_of(path)) & SCRIPT_NAMES


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_scripts_are_short_and_import_no_script(path):
    source = path.read_text()
    assert not imported(source) & SCRIPT_NAMES
    assert len(source.splitlines()) <= 120, "move work into local"


@pytest.mark.parametrize("path", LIBRARY + RECIPE + BENCHMARKS + SCRIPTS, ids=relative)
def test_files_and_functions_are_short(path):
    source = path.read_text()
    assert len(source.splitlines()) < 400
    assert {name: lines for name, lines in functions(source) if lines > 60} == {}


@pytest.mark.parametrize("path", LIBRARY + RECIPE + BENCHMARKS + SCRIPTS, ids=relative)
def test_nothing_in_a_loaded_file_is_run(path):
    assert unsafe_loads(path.read_text()) == []


def test_functions_are_mostly_short():
    lengths = [n for path in LIBRARY + RECIPE for _, n in functions(path.read_text())]
    assert sorted(lengths)[len(lengths) // 2] <= 20
