"""Number of threads of a command, and how long they spin, set before PyTorch is imported.

Neither depends on how busy the machine is: the order of sums, and with it their last bits, follows
the number of threads.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple

from desed_task.parallel import affine_cores, available_cores, cpu_quota
from local.cli.arguments import positive_int

# Read once, when the libraries are loaded. PyTorch takes the first one that is set.
THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# A thread that has to wait sleeps at once. By default it spins for milliseconds first, and beside
# other processes keeps the thread that it waits for off its core; a step has too few parallel
# regions for the waking of threads to take long (docs/speed.md, Threads). libgomp counts turns; the
# OpenMP of Intel and LLVM (macOS, conda) milliseconds.
SPIN_VARIABLES: Final = {"GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
# Any of these shows that the user has chosen.
SPIN_CHOICES: Final = (*SPIN_VARIABLES, "OMP_WAIT_POLICY")

Source = Literal["flag", "environment", "machine"]


class ThreadChoice(NamedTuple):
    """How many threads a command computes with.

    Attributes:
        number: of threads.
        source: what decided: `--threads`, a variable of the environment, or the usable cores.
        notes: lines for the user, if the number may surprise.
    """

    number: int
    source: Source
    notes: tuple[str, ...] = ()

    @property
    def wanted(self) -> int | None:
        """The number that the user has chosen; None if the machine decided."""
        return None if self.source == "machine" else self.number

    def begin(self) -> None:
        """Print the notes; PyTorch, which must be loaded, takes the flag's number.

        Of the environment's number MKL uses no more than there are physical cores.
        """
        for note in self.notes:
            print(note)
        if self.source == "flag":
            _torch_threads(self.number)


def add_threads(
    parser: argparse.ArgumentParser,
    what: str = "threads on the CPU",
    share: str = "one per usable core",
) -> None:
    """Add `--threads`, which every command that computes has; `share` is its default in words."""
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help=f"{what} (default: OMP_NUM_THREADS if set, or {share})",
    )


def choose_threads(asked: int | None, outside: Mapping[str, str]) -> ThreadChoice:
    """The number of threads: of `--threads`, of the environment, or of the usable cores.

    Args:
        asked: the flag's value; None without it.
        outside: the environment of the command.
    """
    cores, notes = available_cores(), []
    if asked is not None:
        if asked > cores:
            notes.append(
                f"note: --threads {asked}: more than the usable cores ({cores}), so threads wait "
                "for each other"
            )
        return ThreadChoice(asked, "flag", tuple(notes))
    for name in THREAD_VARIABLES:
        value = outside.get(name, "").strip()
        if not value:
            continue
        number = _first_number(value)
        if number is None:
            notes.append(
                f"note: {name}={value} is not a number of threads above 0, so it is ignored; "
                "correct or unset it, or give --threads"
            )
            continue
        if number != cores:
            notes.append(f"threads: {number} ({name}; usable cores: {cores})")
        return ThreadChoice(number, "environment", tuple(notes))
    everywhere = os.cpu_count() or 1
    if cores < everywhere:
        limited = cores < affine_cores()
        why = f"the CPU quota is {cpu_quota():g}" if limited else "the affinity of this process"
        notes.append(f"threads: {cores} (of {everywhere} cores; {why})")
    return ThreadChoice(cores, "machine", tuple(notes))


def _first_number(value: str) -> int | None:
    """The number of a variable; of a list for nested levels ("4,2") the outermost."""
    first = value.split(",")[0].strip()
    return int(first) if first.isascii() and first.isdigit() and int(first) > 0 else None


@contextmanager
def threads_set(asked: int | None) -> Iterator[ThreadChoice]:
    """Set threads and spinning for the block, through the environment if PyTorch is not loaded yet.

    What the user has set is kept, but the flag takes precedence and a number that is none is
    replaced. Afterwards everything is as before, for callers in the same process.

    Args:
        asked: value of `--threads`; None without it.
    """
    choice = choose_threads(asked, os.environ)
    names = (*THREAD_VARIABLES, *SPIN_VARIABLES)
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(_variables(choice, os.environ))
    n_before = _torch_threads(choice.number, at_most=choice.source != "flag")
    try:
        yield choice
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if n_before is not None:
            _torch_threads(n_before)


def _variables(choice: ThreadChoice, outside: Mapping[str, str]) -> dict[str, str]:
    """Variables to set, of a process with the environment `outside`."""
    number = str(choice.number)
    found = {
        name: number
        for name in THREAD_VARIABLES
        if choice.source == "flag" or _first_number(outside.get(name, "")) is None
    }
    if not any(outside.get(name) for name in SPIN_CHOICES):
        found.update(SPIN_VARIABLES)
    return found


def _torch_threads(number: int, *, at_most: bool = False) -> int | None:
    """Set the number of threads of PyTorch if it is loaded; returns the one before.

    Args:
        number: of threads.
        at_most: keep a lower number, as PyTorch has one thread per physical core.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    before: int = torch.get_num_threads()
    wanted = min(before, number) if at_most else number
    if before != wanted:
        torch.set_num_threads(wanted)
    return before


def resumed_threads(
    choice: ThreadChoice | None, stored: int | None, here: int
) -> tuple[int, tuple[str, ...]]:
    """The number of threads that a training computes with, and lines about it.

    Args:
        choice: that of the command; None for a training that is not started by one.
        stored: number that the training began with; None for a new one, or if unknown.
        here: number that PyTorch uses without being told.
    """
    notes = () if choice is None else choice.notes
    if choice is not None and choice.source == "flag":
        if stored is not None and stored != choice.number:
            line = (
                f"threads: {choice.number} (--threads), where this training began with {stored}: "
                "sums may differ in their last bits from those of an uninterrupted training"
            )
            notes = (*notes, line)
        return choice.number, notes
    if stored is None or stored == here:
        return here, notes
    line = (
        f"threads: {stored}, as this training began, so that sums agree to the last bit (here it "
        f"would be {here}; --threads {here} computes with these)"
    )
    return stored, (line,)
