"""Library for sound event detection; the recipe for DCASE 2024 Task 4 on top of it is `local`."""

import os
import sys
from importlib.machinery import PathFinder

__version__ = "0.2.0"


def _put_standard_library_first() -> None:
    """Let nothing on the path shadow the standard library's pathlib.

    sed_scores_eval, the extra [verify], brings a pathlib for Python 2, which no Python that runs
    this can import. An environment has its packages behind the standard library. In a folder named
    in PYTHONPATH, such as `pip install --target` fills, or in a zip application they are before it.
    """
    standard = os.path.dirname(os.__file__)
    found = PathFinder.find_spec("pathlib")
    if "pathlib" in sys.modules or found is None or not found.origin:
        return
    place = os.path.dirname(found.origin)
    # From Python 3.13 on it is a package. Spawned processes are given this order too.
    if place in sys.path and place not in (standard, os.path.join(standard, "pathlib")):
        sys.path.insert(sys.path.index(place), standard)


_put_standard_library_first()
