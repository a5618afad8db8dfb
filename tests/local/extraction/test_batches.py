"""Which batches are left of a set, who gets them, and how they are counted."""

from __future__ import annotations

import random
import threading
from collections import Counter
from itertools import chain

import pytest

from desed_task.audio.windows import RowName, WindowKey
from desed_task.parallel import ProgressLines
from local.extraction.batches import batches_of, counted_together, fair_share, given_out
from local.processes import shared_progress
from local.processes.group import Group
from local.processes.world import World

ROWS: list[RowName] = [*(f"{number:02d}" for number in range(9)), WindowKey("03", 80000)]


class Store:
    """Counts as torch's store does."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, key: str, amount: int) -> int:
        with self._lock:
            self.counts[key] += amount
            return self.counts[key]


def groups(number: int) -> list[Group]:
    store = Store()
    return [Group(World(rank, number, rank, number, "torchrun"), store) for rank in range(number)]


def without(*indices: int) -> list[RowName]:
    return [row for index, row in enumerate(ROWS) if index not in indices]


@pytest.mark.parametrize(
    ("todo", "expected"),
    [
        (ROWS, [ROWS[:4], ROWS[4:8], ROWS[8:]]),
        # Whole batches are done: the others stay as they are, also the short last one.
        (ROWS[4:], [ROWS[4:8], ROWS[8:]]),
        (without(4, 5, 6, 7), [ROWS[:4], ROWS[8:]]),
        # A clip could not be read: those behind it keep their batches, and it gets one.
        (ROWS[2:3] + ROWS[4:], [ROWS[4:8], ROWS[8:], ROWS[2:3]]),
        # Changed clips here and there share batches.
        ([ROWS[n] for n in (0, 2, 5, 6, 7, 9)], [[ROWS[n] for n in (0, 2, 5, 6)], ROWS[7::2]]),
        ([], []),
    ],
)
def test_batches_that_are_left(todo: list[RowName], expected: list[list[RowName]]) -> None:
    assert batches_of(ROWS, todo, 4) == expected
    assert batches_of(iter(ROWS), set(todo), 4) == expected  # by place, not as they are asked for


@pytest.mark.parametrize("size", [1, 2, 3, 5, 32])
def test_whatever_is_done_each_row_is_in_one_batch(size: int) -> None:
    rng = random.Random(size)
    rows: list[RowName] = [str(number) for number in range(47)]
    fresh = batches_of(rows, rows, size)
    assert list(chain(*fresh)) == rows
    for _ in range(30):
        done = {row for batch in fresh if rng.random() < 0.5 for row in batch}
        todo = [row for row in rows if row not in done]
        # A killed run leaves whole batches, and what is left are batches of the whole set.
        assert batches_of(rows, todo, size) == [batch for batch in fresh if batch[0] not in done]
        todo = [row for row in todo if rng.random() < 0.7]
        left = batches_of(rows, todo, size)
        assert Counter(chain(*left)) == Counter(todo)
        assert all(0 < len(batch) <= size for batch in left)


@pytest.mark.parametrize(("n_processes", "n_batches"), [(1, 5), (2, 7), (3, 100), (5, 3), (2, 0)])
def test_each_batch_is_given_out_once_as_it_is_asked_for(n_processes: int, n_batches: int) -> None:
    taken: list[list[int]] = [[] for _ in range(n_processes)]
    asking = {
        rank: given_out(n_batches, "devtest", group)
        for rank, group in enumerate(groups(n_processes))
    }
    rng = random.Random(n_batches)
    while asking:
        rank = rng.choice([*asking])
        number = next(asking[rank], None)
        if number is None:
            del asking[rank]
        else:
            taken[rank].append(number)
    assert sorted(chain(*taken)) == list(range(n_batches))
    assert all(own == sorted(own) for own in taken)


def test_sets_are_counted_apart_and_a_single_process_takes_all() -> None:
    first, second = groups(2)
    assert list(given_out(3, "devtest", first)) == [0, 1, 2]
    assert list(given_out(3, "devtest", second)) == []
    assert list(given_out(2, "weak_train", second)) == [0, 1]
    assert list(given_out(3, "devtest", None)) == [0, 1, 2]


def test_no_process_takes_all_of_a_small_set() -> None:
    group = groups(3)[1]
    assert [fair_share(n, group) for n in (0, 1, 3, 4, 300)] == [1, 1, 1, 2, 100]
    assert fair_share(300, None) is None


def test_the_first_process_shows_the_rows_of_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shared_progress, "_REFRESH_S", 0.01)
    first, second = groups(2)
    bars = [ProgressLines("devtest", 10, unit="clip", initial=2) for _ in range(2)]
    with (
        counted_together(bars[0], "devtest", first) as count,
        counted_together(bars[1], "devtest", second) as count_too,
    ):
        count(3)
        count_too(4)
        count_too(1)
    assert (bars[0].n, bars[1].n) == (10, 2)
    assert capsys.readouterr().err == "devtest: 10/10 clips (100 %), 00:00\n"
    with counted_together(bars[1], "devtest", None) as count:
        count(1)
    assert bars[1].n == 3


def test_progress_ends_with_an_error_and_without_the_store() -> None:
    first, _ = groups(2)
    before = threading.active_count()
    with pytest.raises(ValueError, match="wrong"), counted_together(_bar(), "devtest", first):
        raise ValueError("wrong")

    def lost(key: str, amount: int) -> int:
        raise RuntimeError("Connection closed")

    first._store.add = lost
    # Whoever joins processes takes it for the end of a partner.
    with (
        pytest.raises(RuntimeError, match="closed"),
        counted_together(_bar(), "devtest", first),
    ):
        pass
    assert threading.active_count() == before


def _bar() -> ProgressLines:
    return ProgressLines("devtest", 10, unit="clip", leave=False)
