"""Specifications of earlier schemas in the form of today."""

from __future__ import annotations

from typing import Any

from desed_task.checkpoints.encoder_specs import section_of_today
from desed_task.checkpoints.published import PUBLISHED_SPEC
from desed_task.postprocess.decoders import DEFAULTS

_EARLIER = (1, 2, 3, 4)


def updated(stored: Any) -> tuple[Any, Any]:
    """A stored specification in the form of today, unchecked, and its decoder.

    Schema 2 added `net.dropstep_scope`, schema 3 `decoder`, schema 4 `embedding.encoders`,
    schema 5 `embedding.in_checkpoint` and `sizes` of encoders.

    Args:
        stored: plain values.
    """
    if not isinstance(stored, dict):
        return stored, None
    decoder = stored.get("decoder", {})
    stored = {key: value for key, value in stored.items() if key != "decoder"}
    version, net = stored.get("schema_version"), stored.get("net")
    if version == 1 and isinstance(net, dict):
        stored["net"] = {"dropstep_scope": "clip", **net}
    if type(version) is int and version in _EARLIER:
        stored["schema_version"] = PUBLISHED_SPEC["schema_version"]
        if "embedding" in stored:
            stored["embedding"] = section_of_today(stored["embedding"])
    return stored, {**DEFAULTS, **decoder} if isinstance(decoder, dict) else decoder
