"""Work in threads: order, exceptions, the number of threads, and what is left behind."""

import os
import threading
import time

import pytest
import torch

from desed_task.kernels.pieces import run_pieces


@pytest.fixture
def threads():
    """Sets PyTorch's number of threads for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("n_pieces", [0, 1, 3, 40])
def test_results_come_in_order(n_threads, n_pieces, threads):
    threads(n_threads)

    def work(piece: int) -> int:
        time.sleep(0.001 * (piece % 3))
        return piece * piece

    assert run_pieces(work, range(n_pieces)) == [n * n for n in range(n_pieces)]
    assert torch.get_num_threads() == n_threads


def test_work_is_shared_and_pytorch_has_one_thread_in_it(threads):
    threads(3)
    together = threading.Barrier(3, timeout=20)

    def work(_: int) -> tuple[int, int, bool]:
        together.wait()  # passes only if three pieces are worked on at once
        return threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled()

    found = run_pieces(work, range(3))
    assert len({ident for ident, *_ in found}) == 3
    assert {rest for _, *rest in map(tuple, found) for rest in [tuple(rest)]} == {(1, False)}
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("bad", [0, 7, 19])
def test_an_error_is_raised_and_ends_the_rest(n_threads, bad, threads):
    threads(n_threads)
    begun = []

    def work(piece: int) -> None:
        begun.append(piece)
        if piece == bad:
            raise ValueError(f"piece {piece}")
        time.sleep(0.002)

    with pytest.raises(ValueError, match=f"piece {bad}"):
        run_pieces(work, range(200))
    assert len(begun) < 200
    assert torch.get_num_threads() == n_threads
    assert run_pieces(lambda n: n, range(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_threads_may_write_to_the_tensors_of_their_caller(mode, threads):
    threads(2)
    together = threading.Barrier(2, timeout=20)
    with mode():
        out = torch.zeros(2, 3)

        def work(row: int) -> None:
            together.wait()
            out[row] = torch.ones(3) * (row + 1)

        run_pieces(work, range(2))
        assert out.tolist() == [[1.0] * 3, [2.0] * 3]
        assert out.is_inference() == (mode is torch.inference_mode)


def test_a_slow_thread_delays_only_its_own_piece(threads):
    threads(2)
    ended = threading.Event()

    def work(piece: int) -> int:
        if piece == 0:
            assert ended.wait(20)  # until the other thread has done all the others
        elif piece == 9:
            ended.set()
        return piece

    assert run_pieces(work, range(10)) == list(range(10))


def test_pieces_inside_pieces(threads):
    threads(2)
    found = run_pieces(lambda n: sum(run_pieces(lambda m: n * m, range(5))), range(6))
    assert found == [10 * n for n in range(6)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_process_has_threads_of_its_own(threads):
    threads(2)
    run_pieces(lambda n: n, range(4))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(2)
            status = int(run_pieces(lambda n: n, range(4)) != [0, 1, 2, 3])
        finally:
            os._exit(status)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.02)
    else:
        os.kill(child, 9)
        pytest.fail("the forked process waits for threads that it does not have")
    assert os.waitstatus_to_exitcode(status) == 0
