"""Who may import whom, and how long files and functions may be (DESIGN: rooms and habits)."""

import ast
import functools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "desed_task").rglob("*.py"))
RECIPE = sorted((ROOT / "local").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
SCRIPTS = sorted(ROOT.glob("*.py"))
SCRIPT_NAMES = {path.stem for path in SCRIPTS}
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# Packages and loose modules of `local`, from below to above: none imports one of a later row.
ORDER = (
    ("cli", "classes_dict", "pictures"),
    ("schema",),
    ("config_schema", "task"),
    ("config", "processes", "stores"),
    ("data", "extraction"),
    ("scoring", "describe", "doctor", "prep"),
    ("checkpoints", "error_report", "predict", "training"),
    ("sed_trainer_pretrained", "summary", "submission"),
    ("run",),
    ("tuning",),
    ("plan",),
)
LEVEL = {name: level for level, row in enumerate(ORDER) for name in row}
# Modules that stand in no package, without those of the last version's places.
LOOSE = {"local": 5, "desed_task": 11}
MOST_IN_A_FOLDER = 12
# What only the recipe knows; `lightning` and its parts are PyTorch Lightning under other names.
RECIPE_ONLY = {"pytorch_lightning", "lightning", "lightning_fabric", "pydantic", "yaml", "local"}


@functools.cache  # several tests ask for the same files
def imported(source: str, package: str = "") -> frozenset[str]:
    """Top-level names of every import in `source`, those inside functions included.

    `package` is the dotted package of the file, which relative imports start from.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((package if node.level else node.module).split(".")[0])
        elif isinstance(node, ast.Call) and name_of(node.func).endswith(
            ("import_module", "__import__")
        ):
            names.add(str(getattr(node.args[0], "value", "?")).split(".")[0])
    return frozenset(names)


def name_of(called: ast.expr) -> str:
    """The last part of the name of what is called."""
    return getattr(called, "attr", getattr(called, "id", ""))


@functools.cache
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
        and name_of(node.func) == "load"
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


def offenders(paths: Iterable[Path], fault: Callable[[str, Path], object]) -> dict[str, object]:
    """File -> what is wrong with it; one test for all files, which takes a tenth of the time."""
    found = {relative(path): fault(path.read_text(), path) for path in paths}
    return {name: wrong for name, wrong in found.items() if wrong}


def imports_of(names: Collection[str]) -> Callable[[str, Path], Collection[str]]:
    return lambda source, path: imported(source, package_of(path)) & set(names)


def test_offenders_are_seen():
    assert offenders(LIBRARY[:3], imports_of({"desed_task", "numpy"}))
    assert offenders(SCRIPTS, lambda source, _: long_functions(source, most=3))


def long_functions(source: str, most: int = 60) -> dict[str, int]:
    return {name: lines for name, lines in functions(source) if lines > most}


def test_the_library_knows_no_recipe():
    assert offenders(LIBRARY, imports_of(RECIPE_ONLY | SCRIPT_NAMES)) == {}


def test_nothing_but_a_verification_needs_sed_scores_eval():
    """Lazily: importing a module that may call the package does not import it."""
    paths = [path for path in LIBRARY + RECIPE + SCRIPTS if "sed_scores_eval" in path.read_text()]
    border = ROOT / "desed_task" / "evaluation" / "sed_scores_eval_metrics.py"
    users = [path for path in paths if "sed_scores_eval" in imported(path.read_text())]
    assert users == [border]
    for path in paths:
        tree = ast.parse(path.read_text())
        names = {
            f"{node.module}.{alias.name}"
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert not any("sed_scores_eval_metrics" in name for name in names), path


def test_what_trains_nothing_does_without_lightning_and_the_mini_corpus_without_torch():
    """They take seconds to import, and each process that renders sounds would import torch."""
    program = (
        "import sys, local.prep.mini_corpus.make; print('torch' in sys.modules); "
        "import local.summary.summarize, local.submission.make; "
        "print('pytorch_lightning' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_the_recipe_imports_no_script():
    assert offenders(RECIPE, imports_of(SCRIPT_NAMES)) == {}


def test_nothing_needs_the_benchmarks():
    assert offenders(LIBRARY + RECIPE + SCRIPTS, imports_of({"benchmarks"})) == {}


def test_benchmarks_import_no_script():
    assert offenders(BENCHMARKS, imports_of(SCRIPT_NAMES)) == {}


def test_scripts_are_short_and_import_no_script():
    assert offenders(SCRIPTS, lambda source, _: imported(source) & SCRIPT_NAMES) == {}
    lengths = {relative(path): len(path.read_text().splitlines()) for path in SCRIPTS}
    assert {name: n for name, n in lengths.items() if n > 120} == {}, "move work into local"


def test_files_and_functions_are_short():
    everything = LIBRARY + RECIPE + BENCHMARKS + SCRIPTS
    lengths = {relative(path): len(path.read_text().splitlines()) for path in everything}
    assert {name: n for name, n in lengths.items() if n >= 400} == {}
    assert offenders(everything, lambda source, _: long_functions(source)) == {}


def test_nothing_in_a_loaded_file_is_run():
    everything = LIBRARY + RECIPE + BENCHMARKS + SCRIPTS
    assert offenders(everything, lambda source, _: unsafe_loads(source)) == {}


def test_functions_are_mostly_short():
    lengths = [n for path in LIBRARY + RECIPE for _, n in functions(path.read_text())]
    assert sorted(lengths)[len(lengths) // 2] <= 20


# ---- the tree: its order, its circles, its sizes, its names


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_deprecated(path: Path) -> bool:
    """A module that only keeps an old place importable."""
    source = path.read_text()
    return "Deprecated" in source and (ast.get_docstring(ast.parse(source)) or "").startswith(
        "Deprecated"
    )


MODULES = {module_of(path): path for path in LIBRARY + RECIPE if not is_deprecated(path)}


def modules_imported(source: str, known: Collection[str]) -> set[str]:
    """Full names of the modules of ours that a source imports, inside functions and types too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else str(node.module) for name in whole}
    return found & set(known)


@functools.cache
def import_graph() -> dict[str, set[str]]:
    return {name: modules_imported(path.read_text(), MODULES) for name, path in MODULES.items()}


def circle(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Nodes of one import cycle; empty if there is none."""
    done: set[str] = set()

    def visit(node: str, path: tuple[str, ...]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            for other in sorted(graph.get(node, ())):
                if found := visit(other, (*path, node)):
                    return found
            done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, ()))), [])


def between_packages(graph: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """The graph of the packages, and of the modules beside them, that stand right in a top one."""
    packages: dict[str, set[str]] = {}
    for name, others in graph.items():
        own = ".".join(name.split(".")[:2])
        packages.setdefault(own, set())
        packages[own] |= {".".join(other.split(".")[:2]) for other in others} - {own}
    return packages


def upwards(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Imports of `local` against the order of its packages."""
    return [
        f"{name} imports {other}"
        for name, others in sorted(graph.items())
        for other in sorted(others)
        if name.startswith("local.")
        and other.startswith("local.")
        and LEVEL[name.split(".")[1]] < LEVEL[other.split(".")[1]]
    ]


def public_names(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Public class or function -> the modules that define it; `main` is each command's own."""
    where: dict[str, list[str]] = {}
    for module, source in sources.items():
        for name in {n.name for n in ast.parse(source).body if isinstance(n, DEFINITIONS)}:
            if not name.startswith("_") and name != "main":
                where.setdefault(name, []).append(module)
    return where


def test_broken_trees_are_seen():
    known = {"local.run", "local.data.truth", "local.scoring.metrics"}
    source = "def f():\n    from local.scoring import metrics\nfrom local.data.truth import Truth"
    assert modules_imported(source, known) == known - {"local.run"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    two = {"local.a.x": {"local.b.y"}, "local.b.z": {"local.a.w"}}
    assert circle(two) == [] and circle(between_packages(two)) == ["local.a", "local.b", "local.a"]
    assert upwards({"local.data.truth": {"local.scoring.metrics", "local.config"}}) == [
        "local.data.truth imports local.scoring.metrics"
    ]
    assert public_names({"a": "class X: ...", "b": "def X(): ...\ndef _y(): ..."}) == {
        "X": ["a", "b"]
    }


def test_every_package_has_its_place_in_the_order():
    assert {name.split(".")[1] for name in MODULES if name.startswith("local.")} == set(LEVEL)


def test_no_package_imports_one_above_it():
    assert upwards(import_graph()) == []


def test_nothing_is_imported_in_circles():
    assert circle(import_graph()) == []
    tops = {"local", "desed_task"}
    packages = between_packages(import_graph())
    assert circle({n: others - tops for n, others in packages.items()}) == []


def test_folders_are_small():
    folders = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    sizes = {folder.relative_to(ROOT).as_posix(): n for folder, n in folders.items()}
    assert {name: n for name, n in sizes.items() if n > MOST_IN_A_FOLDER} == {}
    assert {name: sizes[name] for name in LOOSE} == LOOSE


def test_a_public_name_means_one_thing():
    sources = {name: path.read_text() for name, path in MODULES.items()}
    assert {name: of for name, of in public_names(sources).items() if len(of) > 1} == {}
