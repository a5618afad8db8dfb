"""What `make setup`, the conda script and CI do, without installing anything."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import desed_task

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
# What make reads from the environment: its own state and the variables with defaults in Makefile.
OF_AN_OUTER_MAKE = {
    "MAKEFLAGS",
    "MAKELEVEL",
    *re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text(), re.M),
}
TARGETS = {"help", "setup", "demo", "test", "lint", "clean"}


def listed(key: str) -> list[str]:
    """The lines of a list of strings in pyproject.toml (Python 3.10 has no TOML reader)."""
    body = re.search(rf"^{key} = \[\n(.*?)^\]", PYPROJECT, re.S | re.M).group(1)
    return [line.strip() for line in body.splitlines()]


def requirements() -> list[Requirement]:
    lines = [
        *listed("dependencies"),
        *listed("export"),
        *listed("verify"),
        *listed("postgresql"),
        *listed("dev"),
    ]
    asked = [Requirement(line.split('"')[1]) for line in lines if line.startswith('"')]
    here = [one for one in asked if one.marker is None or one.marker.evaluate()]
    return [wanted for wanted in here if wanted.name != "desed-task"]


def make(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *map(str, arguments)]
    # Not what an outer `make test` was given, such as -j, VENV or EXTRAS.
    inherited = {k: v for k, v in os.environ.items() if k not in OF_AN_OUTER_MAKE}
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**inherited, **environment}
    )


def test_one_version_everywhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+", desed_task.__version__)
    try:
        installed = version("desed-task")
    except PackageNotFoundError:
        if "CI" in os.environ:
            raise
        pytest.skip("not installed here; `make test` installs it")
    assert installed == desed_task.__version__


def test_the_citation_is_that_of_this_version_and_of_the_task():
    """Required keys of the Citation File Format 1.2.0, and what the README cites."""
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (told["cff-version"], told["type"], told["license"]) == ("1.2.0", "software", "MIT")
    assert str(told["version"]) == desed_task.__version__
    assert told["title"] and told["message"] and told["authors"]
    paper = told["preferred-citation"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert paper["title"] in readme and str(paper["year"]) in readme
    for author in paper["authors"]:
        assert set(author) == {"family-names", "given-names"}
        assert f"{author['given-names'][0]}. {author['family-names']}" in readme


def test_what_is_installed_is_what_is_asked_for():
    asked = requirements()
    assert len(asked) > 20
    outside = [
        f"{wanted} (installed {version(wanted.name)})"
        for wanted in asked
        if Version(version(wanted.name)) not in wanted.specifier
    ]
    assert outside == []


def test_developers_get_what_tests_of_extras_need():
    own = next(Requirement(line.split('"')[1]) for line in listed("dev") if "desed-task" in line)
    assert (own.name, own.extras) == ("desed-task", {"export", "postgresql", "verify"})
    needed = {"onnx", "onnxruntime", "onnxscript", "pg8000", "sed-scores-eval"}
    assert {canonicalize_name(wanted.name) for wanted in requirements()} >= needed


def test_every_upper_bound_has_its_reason():
    lines, unexplained = listed("dependencies"), []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith('"') and re.search("<|==", line) and not before.startswith("#"):
            unexplained.append(line)
    assert unexplained == []


def test_every_package_is_installed():
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for top in ("desed_recipe", "desed_task", "local")
        for path in (ROOT / top).rglob("*.py")
    }
    listed = re.search(r"^packages = \[(.*?)\]", PYPROJECT, re.M | re.S).group(1)
    assert set(re.findall(r'"([\w.]+)"', listed)) == found
    assert all((ROOT / name.replace(".", "/") / "__init__.py").is_file() for name in found)


def test_make_alone_names_every_target():
    told = make().stdout
    assert {
        line.split()[1] for line in told.splitlines() if line.startswith("make ")
    } == TARGETS - {"help"}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_targets_exist(target, tmp_path):
    run = make("-n", target, f"VENV={tmp_path / 'new'}")
    assert run.returncode == 0, run.stderr
    installs = "-m pip install --editable" in run.stdout
    assert installs == (target in {"setup", "demo", "test", "lint"})


def test_all_tests_run_in_a_process_per_core_and_chosen_ones_in_one(tmp_path):
    def pytest_of(*arguments):
        return make("-n", "test", f"VENV={tmp_path}", *arguments).stdout.splitlines()[-1]

    assert pytest_of().endswith("/bin/python -m pytest -q -n auto")
    assert pytest_of("ARGS=-k psds").endswith("/bin/python -m pytest -k psds")


def test_setup_installs_once_and_again_when_the_pins_change(tmp_path):
    venv = tmp_path / "v"
    venv.mkdir()
    stamp = venv / ".installed"
    stamp.touch()
    assert "pip install" not in make("-n", "setup", f"VENV={venv}").stdout
    os.utime(stamp, (0, 0))
    assert "pip install" in make("-n", "setup", f"VENV={venv}").stdout


def test_demo_installs_the_recipe_alone_unless_everything_is_there(tmp_path):
    def installed(*targets):
        lines = make("-n", *targets, f"VENV={tmp_path}").stdout.splitlines()
        return [line.split("--editable ")[1] for line in lines if "--editable" in line]

    assert installed("demo") == [". --no-compile"]
    assert installed("demo", "test") == [". --no-compile", '".[dev]"']
    (tmp_path / ".installed_recipe").touch()
    assert (installed("demo"), installed("lint")) == ([], ['".[dev]"'])
    (tmp_path / ".installed_recipe").unlink()
    (tmp_path / ".installed").touch()
    assert installed("demo", "test") == []
    os.utime(tmp_path / ".installed", (0, 0))
    assert installed("demo", "setup") == ['".[dev]"']


def test_demo_keeps_compiled_modules_whatever_the_environment_says(tmp_path):
    """pip leaves their compilation to Python, which would do it again in each step."""
    (tmp_path / ".installed").touch()
    (tmp_path / "bin").mkdir()
    fake(tmp_path / "bin" / "python", 'echo "${PYTHONDONTWRITEBYTECODE:-kept} $*"')
    told = make(
        *("demo", f"VENV={tmp_path}", "DEMO_ARGS=--set training.seed=1"),
        PYTHONDONTWRITEBYTECODE="1",
    ).stdout.splitlines()
    steps = [line for line in told if line.startswith("kept ")]
    assert len(steps) == 3
    assert steps[-1].endswith("--resume_from_checkpoint auto --set training.seed=1")


def test_torch_index_is_asked_for_torch_alone(tmp_path):
    torch = next(str(r) for r in requirements() if r.name == "torch")
    lines = make(
        "-n", "setup", f"VENV={tmp_path}", "TORCH_INDEX=https://example.org/cpu"
    ).stdout.splitlines()
    first, second = [line for line in lines if "pip install" in line]
    spec = re.search(r'--index-url https://example.org/cpu "(torch[^"]*)"$', first).group(1)
    assert Requirement(spec) == Requirement(torch)
    assert "--index-url" not in second


def test_a_named_torch_is_installed_before_the_rest(tmp_path):
    asked = ("-n", "setup", f"VENV={tmp_path}", "TORCH=torch<2.14")
    first, second = [line for line in make(*asked).stdout.splitlines() if "pip install" in line]
    assert re.search(r'pip install +"torch<2\.14"$', first) and "--editable" in second
    both = make(*asked, "TORCH_INDEX=https://example.org/cpu").stdout
    assert '--index-url https://example.org/cpu "torch<2.14"' in both


def test_the_range_of_pythons_is_one(tmp_path):
    """Of pyproject.toml, of make's check and of its help."""
    low, high = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', PYPROJECT).groups()
    makefile = (ROOT / "Makefile").read_text()
    assert f"(3, {low}) <= v < (3, {high})" in makefile
    assert makefile.count(f"3.{low} to 3.{int(high) - 1}") == 2


def test_an_interpreter_that_will_not_do_is_named(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text(
        f'#!/bin/sh\nshift\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9); $1"\n'
    )
    old.chmod(0o755)
    run = make("setup", f"PYTHON={old}", f"VENV={tmp_path / 'v'}")
    assert run.returncode != 0
    assert "Python 3.9 will not do: choose one from 3.10 to 3.14" in run.stderr
    assert not (tmp_path / "v").exists()


def test_demo_runs_the_recipe_in_order():
    steps = [line.split()[1] for line in make("-n", "demo").stdout.splitlines() if ".py" in line]
    assert steps == [
        "generate_dcase_task4_2024.py",
        "extract_embeddings.py",
        "train_pretrained.py",
    ]


@pytest.fixture
def ci(tmp_path):
    """Runs `.ci/run` from elsewhere, with a make that says what it was asked."""

    def run(body="", **environment):
        fake(tmp_path / "make", f'echo "$PWD $CI ${{NEEDS_TORCHAUDIO-}} $*"\n{body}')
        done = subprocess.run(
            [ROOT / ".ci" / "run"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment},
        )
        return done, done.stdout.splitlines()

    return run


def test_ci_lints_and_tests_two_new_environments(ci):
    run, (setup, lint, first, second) = ci()
    assert run.returncode == 0, run.stderr
    kept = "PIP_OPTIONS=--no-compile"
    found = re.fullmatch(
        rf"(\S+) 1  setup (VENV=(\S+)/venv EXTRAS=dev,codecs,parquet TORCH=(\S+) {kept})", setup
    )
    assert Path(found[1]) == ROOT and not Path(found[3]).exists()
    assert (lint, first) == (f"{ROOT} 1  lint {found[2]}", f"{ROOT} 1  test {found[2]}")
    allowed = next(one.specifier for one in requirements() if one.name == "torch")
    assert "2.13.0" in Requirement(found[4]).specifier
    assert Version("2.13.0") in allowed
    newest = "torch>=2.14,<2.15"
    # torchaudio's extra has the same limit.
    assert PYPROJECT.split("\ntorchaudio = [")[1].split("]")[0].count('"torch<2.15"') == 1
    what = f"VENV={found[3]}/newest EXTRAS=dev,codecs,torchaudio TORCH={newest} {kept}"
    begun, _, tests = second.partition("ARGS=-q -n auto ")
    assert begun == f"{ROOT} 1 1 test {what} "
    chosen = [one.split("::") for one in tests.split()]
    assert {"test_torchaudio.py", "nnet", "test_train_step.py"} <= {
        one[0].removeprefix("tests/desed_task/") for one in chosen
    }
    for path, *names in chosen:
        assert path.startswith("tests/desed_task/") and (ROOT / path).exists()
        for name, _, value in (name.partition("[") for name in names):
            source = (ROOT / path).read_text()
            assert f"\ndef {name}(" in source and f'"{value.rstrip("]")}"' in f'{source}""'


@pytest.mark.parametrize(
    ("failing", "n_steps", "told"),
    [
        ("setup*/venv", 1, ""),
        ("lint", 2, ""),
        ("torch*/newest", 3, "the second environment"),
        ("test*/venv", 3, ""),
        ("setup*/newest", 5, "the second environment"),
        ("tests/desed_task", 4, ""),
    ],
)
def test_ci_fails_with_each_of_its_steps(ci, failing, n_steps, told):
    run, steps = ci(f'case "$*" in *{failing}*) exit 2;; esac')
    assert run.returncode != 0 and len(steps) == n_steps
    assert told in run.stderr


def test_ci_ends_with_what_it_has_begun(ci, tmp_path):
    """The torch of the second environment is installed beside the linters, which fail here."""
    hang = f"torch*/newest*) touch {tmp_path}/on; exec sleep 600;;"
    fail = f"*lint*) until [ -e {tmp_path}/on ]; do sleep 0.01; done; exit 2;;"
    run, steps = ci(f'case "$*" in {hang} {fail} esac')
    assert run.returncode != 0 and len(steps) == 2


def test_ci_writes_to_the_checkout_in_turn(ci, tmp_path):
    """Torch is installed beside the first setup, the rest of the second environment after it."""
    log = tmp_path / "log"
    wait = f"until [ -e {tmp_path}/on ]; do sleep 0.01; done"
    cases = f"torch*) touch {tmp_path}/on;; setup*/venv*) {wait};;"
    run, _ = ci(f'case "$*" in {cases} esac; echo "$1" "$2" >> {log}')
    assert run.returncode == 0
    done = [line.split(" ")[0] + line.rpartition("/")[2] for line in log.read_text().splitlines()]
    assert done.index("setupvenv") < done.index("setupnewest") and "torchnewest" in done


@pytest.mark.parametrize(
    ("environment", "user", "there", "installed"),
    [
        ({"CI": "true"}, 0, "", "chromium chromium-driver ffmpeg postgresql"),
        ({"CI": "true"}, 0, "ffmpeg|chromium", "chromium-driver postgresql"),
        ({"CI": "true"}, 0, "chromium|chromium-driver|ffmpeg|postgresql", None),
        ({"CI": "true"}, 1000, "", None),
        ({"CI": ""}, 0, "", None),
        ({}, 0, "", None),
    ],
)
def test_packages_are_installed_by_root_under_ci_alone(
    ci, tmp_path, environment, user, there, installed
):
    fake(tmp_path / "id", f"echo {user}")
    known = f"case $3 in {there or '-'}) echo installed;; *) exit 1;; esac"
    fake(tmp_path / "dpkg-query", known)
    log = tmp_path / "log"
    fake(tmp_path / "apt-get", f'echo "$*" >> {log}')
    fake(tmp_path / "sudo", f"echo sudo >> {log}")
    run, steps = ci(**environment)
    assert run.returncode == 0 and len(steps) == 4, run.stderr
    told = log.read_text().splitlines() if log.exists() else []
    command = f"install --yes --no-install-recommends {installed}"
    assert told == ([] if installed is None else ["update", command])
    forbidden = installed is None and "|" not in there
    assert ("not installed, as this is not root under CI" in run.stderr) == forbidden
    fake(tmp_path / "apt-get", "exit 1")
    run, steps = ci(**environment)
    assert run.returncode == 0 and len(steps) == 4
    assert ("cannot be installed" in run.stderr) == (installed is not None)


def fake(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def conda(tmp_path):
    """Runs the script with a `conda` that knows the environments named; returns its calls too."""
    for tool in ("bash", "dirname", "sed", "sh"):
        (tmp_path / tool).symlink_to(shutil.which(tool))

    def run(*arguments, known=(), tools=("conda", "cc"), **environment):
        log = tmp_path / "log"
        log.write_text("")
        there = "|".join(known) or "-"
        for tool in tools:
            # Answers "run ... NAME python --version" as conda does for a known or unknown NAME.
            fake(
                tmp_path / tool,
                f'echo "$*" >> {log}\ncase "$1 $4 $6" in\n  "run "*" --version")\n'
                f"    case $4 in {there}) exit 0;; *) exit 1;; esac;;\nesac",
            )
        done = subprocess.run(
            [ROOT / "conda_create_environment.sh", *arguments],
            capture_output=True,
            text=True,
            env={"PATH": str(tmp_path), **environment},
        )
        return done, log.read_text().splitlines()

    return run


def test_conda_makes_an_environment_and_installs_as_make_does(conda):
    run, calls = conda()
    assert run.returncode == 0, run.stderr
    _, create, install = calls
    assert create == "create --yes --name dcase2024 python=3.11 pip"
    made = next(line for line in make("-n", "-B", "setup").stdout.splitlines() if "--edit" in line)
    assert install.split("python ")[1] == made.split("python ")[1].replace('"', "")
    assert "conda activate dcase2024" in run.stdout


def test_conda_brings_an_environment_up_to_date(conda):
    run, calls = conda("mine", known=("mine",), TORCH_INDEX="https://example.org/cpu")
    assert run.returncode == 0, run.stderr
    assert not any(call.startswith("create") for call in calls)
    assert re.search(r"--name mine .*--index-url https://example.org/cpu torch>=", calls[1])


@pytest.mark.parametrize(
    ("tools", "message"),
    [((), "error: conda is not on PATH"), (("conda",), "error: no C compiler (cc)")],
)
def test_conda_script_says_what_is_absent(conda, tools, message):
    run, calls = conda(tools=tools)
    assert (run.returncode, calls) == (1, [])
    assert message in run.stderr


def test_conda_script_tells_its_use(conda):
    run, calls = conda("--help")
    assert (run.returncode, calls) == (2, [])
    assert "bash conda_create_environment.sh" in run.stdout


def test_what_is_made_is_not_committed():
    made = ["data/mini/x.wav", "exp/a", "embeddings/b", ".venv/c", "scaler.ckpt", "a/x.hdf5.part"]
    run = subprocess.run(
        ["git", "check-ignore", "--no-index", *made], cwd=ROOT, capture_output=True, text=True
    )
    assert run.stdout.split() == made
