"""Put a page together from the files in assets/ and what it shows."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).with_name("assets")
# Nothing may be fetched but the sound; programs and styles are those whose digests are named.
_POLICY = (
    "default-src 'none'; img-src data:; media-src 'self' file: blob:; base-uri 'none'; "
    "form-action 'none'; script-src '{script}'; style-src '{style}'"
)


def document(kind: str, scripts: Sequence[str], parts: Mapping[str, str]) -> str:
    """The text of a page.

    Args:
        kind: "page" or "index", the name of its template and style.
        scripts: its programs, in their order.
        parts: what replaces `{{name}}` in the template, as HTML.
    """
    style = _asset("common.css") + _asset(f"{kind}.css")
    script = '"use strict";\n' + "".join(_asset(name) for name in scripts)
    policy = _POLICY.format(script=_digest(script), style=_digest(style))
    parts = {**parts, "policy": policy, "style": style, "script": script}
    # Split once, so that what is put in is never itself taken for a place.
    pieces = _asset(f"{kind}.html").split("{{")
    text = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        text += [parts[name], rest]
    return "".join(text)


def data_block(name: str, value: Any) -> str:
    """JSON as an element of a page, called `name`."""
    return f'<script type="application/json" id="{name}">{safe_json(value)}</script>'


def safe_json(value: Any) -> str:
    """JSON of ASCII alone, without the characters that HTML gives a meaning."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"
