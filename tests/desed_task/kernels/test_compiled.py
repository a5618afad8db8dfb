"""Functions that compiled loops are made of, held against NumPy in float64."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from desed_task.kernels import compiled as compiled_module
from desed_task.kernels.compiled import (
    DRAWS_PER_WORD,
    compiled,
    draw_kept,
    exponential,
    hyperbolic_tangent,
    random_word,
    sigmoid,
)


def over(function, x):
    """A compiled function of a number, in a loop as kernels have it: computed on vectors."""

    @compiled
    def apply(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    out = np.empty_like(x)
    apply(x, out)
    return out.astype(np.float64)


def points(limit: float) -> np.ndarray:
    """Numbers of every size and both signs, the limits and zero among them."""
    small = np.geomspace(1e-30, limit, 20001)
    evenly = np.linspace(-limit, limit, 20001)
    return np.concatenate([-small, small, evenly, [0.0, -0.0]]).astype(np.float32)


@pytest.mark.parametrize(
    ("function", "true", "limit"),
    [
        (exponential, np.exp, 87.0),
        (sigmoid, lambda x: 1 / (1 + np.exp(-x)), 80.0),
        (hyperbolic_tangent, np.tanh, 80.0),
    ],
)
def test_functions_are_exact_to_float32(function, true, limit):
    x = points(limit)
    np.testing.assert_allclose(over(function, x), true(x.astype(np.float64)), rtol=6e-7, atol=0)


@pytest.mark.parametrize(
    ("function", "low", "high"), [(sigmoid, 0.0, 1.0), (hyperbolic_tangent, -1.0, 1.0)]
)
def test_functions_end_at_their_limits(function, low, high):
    x = np.array([-np.inf, -1e30, -200.0, 200.0, 1e30, np.inf], np.float32)
    expected = [low] * 3 + [high] * 3
    np.testing.assert_allclose(over(function, x), expected, rtol=1e-7, atol=1e-37)


@pytest.mark.parametrize("function", [exponential, sigmoid, hyperbolic_tangent])
def test_what_is_not_a_number_stays_so(function):
    """A diverged network must be seen as one."""
    assert np.isnan(over(function, np.array([np.nan] * 20, np.float32))).all()


def test_words_are_those_of_splitmix64():
    # The first outputs of the reference generator from seed 1234567.
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    found = [int(random_word(np.uint64(1234567), np.uint64(index))) for index in range(5)]
    assert found == expected


@pytest.mark.parametrize("width", [1, 3, 4, 30])
def test_a_row_is_drawn_again_and_others_differ(width):
    def row(seed: int, number: int) -> list[float]:
        kept = np.empty(width, np.float32)
        words = np.empty(-(-width // DRAWS_PER_WORD), np.uint64)
        draw_kept(kept, words, np.uint64(seed), number, 1 << 15)
        return kept.tolist()

    rows = [row(7, number) for number in range(64)]
    assert rows == [row(7, number) for number in range(64)]
    assert rows != [row(8, number) for number in range(64)]
    assert len(set(map(tuple, rows))) > min(2**width, 60) // 2
    assert set(np.ravel(rows)) == {0.0, 1.0}


@pytest.mark.parametrize(("dropped", "share"), [(0, 1.0), (1 << 16, 0.0), (13107, 0.8)])
def test_the_bound_is_the_probability(dropped, share):
    kept, words = np.empty(400_000, np.float32), np.empty(100_000, np.uint64)
    draw_kept(kept, words, np.uint64(3), 5, dropped)
    deviation = (share * (1 - share) / kept.size) ** 0.5
    assert abs(kept.mean(dtype=np.float64) - share) <= 5 * deviation


def test_the_cache_has_a_name_for_each_state_of_the_sources(monkeypatch, tmp_path):
    package = tmp_path / "kernels"
    shutil.copytree(Path(compiled_module.__file__).parent, package)
    monkeypatch.setattr(compiled_module, "__file__", str(package / "compiled.py"))
    monkeypatch.setattr(compiled_module.numba.config, "CACHE_DIR", "")
    first = compiled_module.cache_folder()
    assert first.parent == package / "__pycache__"
    assert compiled_module.cache_folder() == first
    with (package / "gru_cell.py").open("a") as file:
        file.write("# changed\n")
    assert compiled_module.cache_folder() != first


def test_the_cache_moves_where_the_modules_are_read_only(monkeypatch, tmp_path):
    monkeypatch.setattr(compiled_module.numba.config, "CACHE_DIR", str(tmp_path / "given"))
    assert compiled_module.cache_folder().parent == tmp_path / "given"
    monkeypatch.setattr(compiled_module.numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    beside = Path(compiled_module.__file__).parent
    access = os.access
    monkeypatch.setattr(
        compiled_module.os,
        "access",
        lambda path, mode: beside not in Path(path).parents and access(path, mode),
    )
    assert compiled_module.cache_folder().parent == tmp_path / "users" / "desed_task"
    monkeypatch.setattr(compiled_module.os, "access", lambda path, mode: False)
    assert compiled_module.cache_folder() is None
    monkeypatch.setattr(compiled_module, "_CACHE", None)
    assert compiled_module.compiled(lambda x: x + 1)(1) == 2
