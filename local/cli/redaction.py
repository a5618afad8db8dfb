"""Remove passwords, tokens and keys from text that is printed or stored.

    redact("https://me:S3cret@host/x?token=abc&page=2")   # https://me:***@host/x?token=***&page=2

Messages are redacted where they leave the program (`local.cli.exit_status`) and where text that may
contain an address is stored: run.yaml, logs and tables of failures.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

from desed_task.file_names import printable

HIDDEN = "***"
# What an address in a text may consist of; quotes, brackets and spaces end it.
# Words are matched from their beginnings only: each place in a long one would take quadratic time.
_ADDRESS = re.compile(
    r"(?P<scheme>(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*:)?//(?P<rest>[^\s'\"<>]*)"
)
# name=value behind ? or & (also in what urllib3 prints, which lacks scheme and host), or alone; the
# value may be quoted.
_PARAMETER = re.compile(
    r"(?P<name>(?:[?&;#]|(?<![\w.%~\[\]-]))[\w.%~\[\]-]+)=(?P<value>'[^'\n]*'|\"[^\"\n]*\"|[^&#\s'\"<>]+)"
)
# A second query in a value.
_LATER = re.compile(r"[?&;#]([\w.%~\[\]-]+)=")
# Fields of dictionaries, JSON and YAML: "password": "x", 'api_key': 'x', password: x.
_FIELD = re.compile(
    r"(?i)(?P<name>(?<![\w.-])[\w.-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|api_?key))"
    r"(?P<sign>['\"]?\s*[:=]\s*|['\"],\s*)(?P<value>'[^'\n]*'|\"[^\"\n]*\")"
)
_PLAIN_FIELD = re.compile(r"(?i)\b(passw(?:or)?d|passphrase)(\s*:\s+|\s+=\s+)(?=\S)[^\s,;'\"]+")
# Without quotes, as in --set "logging.wandb={api_key: ...}".
_PLAIN_KEY = re.compile(r"(?i)((?:api_?key|secret_?key|access_?token)\s*[:=]\s*)[^\s,;'\"{}*]+")
_OPTION = re.compile(r"(?i)(--?(?:passw(?:or)?d|passphrase|token|secret|api[-_]?key)\s+)[^\s-]\S*")
_HEADER = re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)(['\"]?\s*:\s*).+")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/-]{6,}=*")
_SECRET_NAME = re.compile(
    r"pass(?:w|$|phrase|code)|pwd|secret|token(?!s)|credential|signature|apikey|auth(?!or)"
)
# Short names count only as a whole word: `monkey` and `design` hide nothing.
_SECRET_WORDS = frozenset(("key", "keyid", "sig", "sid", "jwt", "pass", "pw", "session"))
# In other text than addresses, `key=3` is usually no secret.
_PLAIN_SECRET = re.compile(
    r"(?:^|[-_.])(?:pass(?:word|wd|phrase)?|pwd|secret|token|apikey)$|pgpass"
)
_TRAILING = ").,:;]}"
# User names of this length are access tokens, as GitHub and others take them.
_TOKEN_CHARACTERS = 20
_PORT = re.compile(r"\d{1,5}")
_COLON = re.compile(r":|%3[aA]")
_OF_THE_WEB = ("http:", "https:", "")
# Addresses in one another; what is deeper is hidden as a whole.
_MOST_NESTED = 8
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
_SHORTEST_LITERAL = 4


def redact(text: str) -> str:
    """The text with secrets of addresses, parameters and headers replaced by ***.

    Hidden are the password in `scheme://user:password@host` (and a user name that is a token),
    values of parameters such as `?password=`, `&api_key=` or `X-Amz-Signature=`, Authorization and
    Cookie headers, quoted fields such as `'password': 'x'`, and the passwords of the proxies that
    the environment names. Everything else stays as it is.
    """
    for secret in _environment_secrets():
        text = text.replace(secret, HIDDEN)
    if "//" in text:
        text = _ADDRESS.sub(_without_user_secrets, text)
    if "=" in text:
        text = _PARAMETER.sub(_without_value, text)
    text = _FIELD.sub(rf"\g<name>\g<sign>'{HIDDEN}'", text)
    text = _PLAIN_FIELD.sub(rf"\1\2{HIDDEN}", text)
    text = _PLAIN_KEY.sub(rf"\1{HIDDEN}", text)
    text = _OPTION.sub(rf"\1{HIDDEN}", text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    return _BEARER.sub(rf"\1 {HIDDEN}", text)


def shown(text: str) -> str:
    """A message as it may be printed: without passwords and control characters."""
    return printable(redact(text))


def redact_values(value: Any) -> Any:
    """A copy of plain values with each text redacted by itself, whatever key it stands under.

    For reports, whose keys may be names of files.
    """
    if isinstance(value, Mapping):
        return {key: redact_values(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(part) for part in value]
    return redact(value) if isinstance(value, str) else value


def redact_tree(value: Any, name: str = "") -> Any:
    """A copy of plain values (dicts, lists, strings) with the secrets in them replaced by ***.

    Args:
        value: a tree of plain values.
        name: the key it stands under; all of the value is hidden if that is the name of a secret.
    """
    if isinstance(value, dict):
        return {key: redact_tree(part, str(key)) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [redact_tree(part, name) for part in value]
    if not isinstance(value, str) or not value:
        return value
    return HIDDEN if _is_secret(name, in_address=True) else redact(value)


def redact_address(address: str) -> str:
    """An address without its secrets, for printing; it may contain spaces or lack its scheme."""
    scheme, slashes, rest = address.rpartition("://") if "://" in address else ("", "", address)
    if slashes and "@" not in rest:  # A second address, or none with a user.
        scheme, slashes, rest = address.partition("://")
    kind = scheme + ":" if slashes else ""
    return redact(scheme + slashes + _hide_user_secrets(rest, kind))


def _without_user_secrets(found: re.Match[str], depth: int = 0) -> str:
    scheme = found["scheme"] or ""
    if depth > _MOST_NESTED:
        return f"{scheme}//{HIDDEN}"
    return f"{scheme}//{_hide_user_secrets(found['rest'], scheme, depth)}"


def _hide_user_secrets(rest: str, scheme: str = "", depth: int = 0) -> str:
    """Hide the password of `user:password@host/...`, which may itself contain @, / ? or #."""
    end = _end_of_user(rest, scheme) or 0
    colon = _COLON.search(rest, 0, end)
    start, stop = colon.span() if colon else (end, end)
    user, password = rest[:start], rest[stop:end]
    if len(user) >= _TOKEN_CHARACTERS and "." not in user:
        user = HIDDEN
    # Further addresses may follow, such as the target of a redirection.
    later = _ADDRESS.sub(partial(_without_user_secrets, depth=depth + 1), rest[end:])
    return f"{user}{rest[start:stop]}{HIDDEN if password else ''}{later}"


def _end_of_user(rest: str, scheme: str = "") -> int | None:
    """Where the @ behind user and password is; None without them."""
    stop = re.search(r"[/?#]", rest)
    authority = rest[: stop.start()] if stop else rest
    if "@" in authority:
        return authority.rindex("@")
    # A password that is not percent-encoded may contain what ends an authority. Behind the colon
    # of a host there is a port, and an IPv6 address stands in brackets.
    host, colon, port = authority.partition(":")
    if not colon or not host or host.startswith("["):
        return None
    if _PORT.fullmatch(port):
        # Paths on the web may contain @, names of databases do not.
        end = -1 if scheme.lower() in _OF_THE_WEB else rest.partition("?")[0].rfind("@")
        return end if end > 0 else None
    if "@" not in rest:  # It may be percent-encoded, too.
        end = authority.rfind("%40")
        return end if end > 0 else None
    following = rest.find("://")
    end = rest.rfind("@", 0, following if following > 0 else None)
    return end if end > 0 else None


def _without_value(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    kept = value[len(value.rstrip(_TRAILING)) :]
    behind = name[0] in "?&;#"
    if not _is_secret(name.lstrip("?&;#"), behind):
        if _hides_address(value):
            return f"{name}={HIDDEN}{kept}"
        later = next((one for one in _LATER.finditer(value) if _is_secret(one[1], True)), None)
        return f"{name}={value[: later.end()]}{HIDDEN}" if later else found[0]
    return f"{name}={HIDDEN}{kept}"


def _hides_address(value: str) -> bool:
    """Whether a percent-encoded address, such as the target of a login page, has secrets."""
    for _ in range(_MOST_NESTED):
        value, before = unquote(value), value
        if value == before:
            return False
        if "//" in value and (
            _ADDRESS.sub(_without_user_secrets, value) != value
            or any(_is_secret(one[1], True) for one in _LATER.finditer(value))
        ):
            return True
    return False


def _is_secret(name: str, in_address: bool) -> bool:
    plain = unquote(name)
    if not in_address:
        return bool(_PLAIN_SECRET.search(plain.lower().replace("api_key", "apikey")))
    words = re.split(r"[-_.\W]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", plain).lower())
    joined = "".join(words)
    return bool(_SECRET_NAME.search(joined)) or any(
        word in _SECRET_WORDS or word.endswith(("keyid", "sessionid")) for word in (*words, joined)
    )


def _environment_secrets() -> Iterator[str]:
    """Passwords of the proxies, as written in the environment and decoded."""
    for name in _PROXY_VARIABLES:
        for value in (os.environ.get(name, ""), os.environ.get(name.upper(), "")):
            rest = value.rpartition("://")[2]
            end = _end_of_user(rest)
            password = rest[:end].partition(":")[2] if end is not None else ""
            for secret in {password, unquote(password)}:
                if len(secret) >= _SHORTEST_LITERAL:
                    yield secret
