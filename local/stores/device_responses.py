"""Impulse responses of devices that a configuration names (`augment.device_dir`)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from desed_task.augment.responses import (
    DeviceResponses,
    read_responses,
    responses_sha256,
    responses_stamp,
)
from desed_task.errors import InputError
from local.config import RecipeConfig

RESPONSES_KEY: Final = "augment.device_dir"


def device_responses(config: RecipeConfig) -> DeviceResponses | None:
    """The responses at the configuration's rate; None if none are used.

    Raises:
        InputError: see `read_responses`.
    """
    augment, grid = config.augment, config.grid
    if not augment.device_prob or augment.device_dir is None:
        return None
    n_samples = round(grid.clip_s * grid.sample_rate)
    stamp = responses_stamp(augment.device_dir)
    return _read_once(augment.device_dir, grid.sample_rate, n_samples, stamp)


@lru_cache(maxsize=1)
def _read_once(
    folder: str, sample_rate: int, n_samples: int, _stamp: tuple[tuple[str, int, int], ...]
) -> DeviceResponses:
    return read_responses(folder, sample_rate, n_samples)


def response_digests(config: RecipeConfig) -> dict[str, Any]:
    """What is kept of the responses beside the digests of the corpora; empty without responses."""
    augment = config.augment
    if not augment.device_prob or augment.device_dir is None:
        return {}
    sha256, number = responses_sha256(augment.device_dir)
    return {RESPONSES_KEY: {"responses": {"sha256": sha256, "responses": number}}}


def response_problems(config: RecipeConfig) -> list[str]:
    """Why the responses cannot be used; empty if they can."""
    try:
        device_responses(config)
    except InputError as error:
        return [str(error)]
    return []
