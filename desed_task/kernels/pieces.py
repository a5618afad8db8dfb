"""Divide the work of a CPU kernel among threads, without an effect of their number on results."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def run_pieces(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """Apply `work` to each piece, without gradients, in as many threads as PyTorch may use.

    A thread takes the next piece when it has finished one, so a thread that another process holds
    up delays only its own piece. Inside `work` PyTorch uses one thread, and waits for none.

    Args:
        work: spends its time in kernels and PyTorch, which release the GIL; called in threads.
        pieces: its arguments. What belongs together in a sum is one piece; add up results of pieces
            in their order, and the sum is the same for any number of threads.

    Returns:
        The results in the order of the pieces.
    """
    n_threads = torch.get_num_threads()
    n_workers = min(n_threads, len(pieces))
    with torch.no_grad():
        if n_workers < 2:
            return [work(piece) for piece in pieces]
        results: list[Result | None] = [None] * len(pieces)
        # Modes belong to threads, and tensors made in inference mode can be written to only in it.
        inference = torch.is_inference_mode_enabled()
        # `next` of this iterator is one step of the interpreter, so no two threads get one index.
        indices = iter(range(len(pieces)))

        def take() -> None:
            # The number belongs to each thread; that of BLAS belongs to the process.
            torch.set_num_threads(1)
            try:
                with torch.inference_mode(inference), torch.no_grad():
                    for index in indices:
                        results[index] = work(pieces[index])
            finally:
                # After an error, or Ctrl-C, no thread takes another piece.
                for _ in indices:
                    pass

        pool = _threads(n_threads - 1)
        others = [pool.submit(take) for _ in range(n_workers - 1)]
        try:
            take()
        finally:
            wait(others)
            torch.set_num_threads(n_threads)
        for other in others:
            other.result()
    return results  # type: ignore[return-value]


@functools.lru_cache(maxsize=1)
def _threads(n_threads: int) -> ThreadPoolExecutor:
    """Threads that stay, because starting one takes longer than a piece."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="kernel")


if hasattr(os, "register_at_fork"):
    # A forked process, such as a worker of a data loader, has no threads but its own.
    os.register_at_fork(after_in_child=_threads.cache_clear)
