"""Stand-ins for packages that a GPU machine may lack: all but their own rows can be timed."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

# Imported at the top of modules of which a benchmark needs other things.
OPTIONAL = ("codecarbon", "sed_scores_eval", "soundfile", "soxr", "thop")


class _Refusing(type):
    """Classes that can be named, but neither called nor looked into."""

    package = ""

    def __call__(cls, *_: Any, **__: Any) -> NoReturn:
        raise ModuleNotFoundError(f"{cls.package} is not installed", name=cls.package)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls()


class _StandIn(ModuleType):
    """A module whose every name is there and refuses to be used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        # An exception, as it may be named in an `except`; none is ever made.
        return _Refusing(name, (Exception,), {"package": self.__name__.partition(".")[0]})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the absent packages and all that is imported from inside them."""

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
        """Nothing: names are made up as they are asked for."""


def stand_in(names: Sequence[str] = OPTIONAL) -> tuple[str, ...]:
    """Let those of `names` be imported that are not installed; using them is a ModuleNotFoundError.

    Returns:
        The absent ones.
    """
    absent = tuple(name for name in names if importlib.util.find_spec(name) is None)
    if absent:
        sys.meta_path.append(_Finder(absent))
    return absent
