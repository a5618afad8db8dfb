"""Stand-ins for missing packages, so that rows that do not need them can be timed."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

# Imported by modules that the benchmarks use for other things.
OPTIONAL = ("codecarbon", "sed_scores_eval", "soundfile", "soxr", "thop")


class _Refusing(type):
    """Metaclass of stand-ins that can be named, but neither called nor inspected."""

    package = ""

    def __call__(cls, *_: Any, **__: Any) -> NoReturn:
        raise ModuleNotFoundError(f"{cls.package} is not installed", name=cls.package)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls()


class _StandIn(ModuleType):
    """A module that has every name; using one raises ModuleNotFoundError."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        # An exception, as it may occur in an `except`; it is never instantiated.
        return _Refusing(name, (Exception,), {"package": self.__name__.partition(".")[0]})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import finder for the missing packages and their submodules."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: names are created on access."""


def stand_in(names: Sequence[str] = OPTIONAL) -> tuple[str, ...]:
    """Make missing packages of `names` importable; using them raises ModuleNotFoundError.

    Returns:
        The missing packages.
    """
    absent = tuple(name for name in names if importlib.util.find_spec(name) is None)
    if absent:
        sys.meta_path.append(_Finder(absent))
    return absent
