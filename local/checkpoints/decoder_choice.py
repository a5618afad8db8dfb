"""Whose decoder a checkpoint is decoded by: its own, a configuration's, or one tuned for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from desed_task.atomic_files import sha256_of
from local.config import RecipeConfig
from local.schema.decoding import DecoderConfig

# What events at tuned thresholds depend on.
_DECODED_BY = ("decoder.", "net.median_filter.", "predict.threshold.")


def choose_decoder(
    tree: dict[str, Any], here: RecipeConfig, overrides: Sequence[str], origin: str
) -> bool:
    """Put the decoder of `here` into a checkpoint's values, if it was tuned for the checkpoint or
    is another than the default one.

    Args:
        tree: the checkpoint's own values, modified in place.
        here: the configuration of this run.
        overrides: entries `section.key=value`, which are applied to the tree later.
        origin: path of the checkpoint.

    Returns:
        Whether `here` has tuned values, which belong to one checkpoint: this one, whose filters and
        decoder they replace, or another, which a line says.
    """
    mine = here.dump()
    tuned_for = here.tuned.checkpoint_sha256
    if tuned_for and Path(origin).is_file():
        if sha256_of(origin) == tuned_for:
            tree["net"]["median_filter"] = mine["net"]["median_filter"]
            tree["decoder"] = mine["decoder"]
            tree["tuned"] = _tuned_but_for(mine["tuned"], overrides, origin)
        else:
            print(
                f"{origin}: keeps its own decoder and median filters, as those of the "
                f"configuration were tuned for another checkpoint (SHA-256 {tuned_for[:12]}...)"
            )
        return True
    if _without(overrides, mine["decoder"]) not in (_default_decoder(), tree["decoder"]):
        tree["decoder"] = mine["decoder"]
    return False


def _tuned_but_for(tuned: dict[str, Any], overrides: Sequence[str], origin: str) -> dict[str, Any]:
    """What was tuned, without thresholds that overrides replace or that were for other events."""
    keys = [override.partition("=")[0].strip() for override in overrides]
    other = [key for key in keys if f"{key}.".startswith(_DECODED_BY)]
    if not (other and tuned["threshold_metric"]):
        return tuned
    print(f"{origin}: no F1 at tuned thresholds, as --set changes {', '.join(other)}")
    return {**tuned, "threshold_metric": ""}


def _default_decoder() -> dict[str, Any]:
    return DecoderConfig().model_dump(mode="json")


def _without(overrides: Sequence[str], decoder: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's decoder without what `--set` changes, which is no other decoder."""
    keys = [one.partition("=")[0].strip() for one in overrides]
    default = _default_decoder()
    return {**decoder, **{key: default[key] for key in default if f"decoder.{key}" in keys}}


def tell_decoder(decoder: DecoderConfig, own: Mapping[str, Any], given: str, origin: str) -> None:
    """Say whose decoder is used where a checkpoint and a configuration have different ones.

    The default one may have been given on purpose, which cannot be told from none.

    Args:
        decoder: the one that is used.
        own: the checkpoint's, as plain values.
        given: kind of the configuration's.
        origin: path of the checkpoint.
    """
    used = decoder.model_dump(mode="json")
    if used != own:
        same = ", with other settings" if used["kind"] == own["kind"] else ""
        print(
            f"{origin}: decoded by {used['kind']}, as the configuration says (its own: "
            f"{own['kind']}{same})"
        )
    elif own["kind"] != given:
        print(
            f"{origin}: decoded by {used['kind']}, as it says itself (the configuration: "
            f"{given}; to have that, --set decoder.kind=...)"
        )
