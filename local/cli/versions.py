"""Versions of the packages that results depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import desed_task

RECORDED_PACKAGES = (
    "torch",
    "pytorch-lightning",
    "numpy",
    "scipy",
    "sed_scores_eval",
    "torchmetrics",
)


def versions() -> dict[str, str]:
    """Package -> installed version, including desed_task and Python."""
    found = {"desed_task": desed_task.__version__, "python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
