"""What a server's answer means for a download: the file, the rest of it, try again, or never."""

from __future__ import annotations

import email.utils
import re
import time
from typing import NamedTuple

import requests

from desed_task.errors import InputError

_TRY_AGAIN = (408, 425, 429)
_OTHER_PLACE = (
    "correct it in the table of sources (confs/sources.yaml), or give a place that has it with "
    "--mirror URL"
)


class RetryableError(Exception):
    """The same request may go better later.

    Attributes:
        retry_after_s: how long the server asks to wait, None when it does not say.
    """

    def __init__(self, what: str, retry_after_s: float | None = None) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s

    @classmethod
    def of(cls, error: Exception, url: str) -> RetryableError:
        """What a request raised, in short.

        Raises:
            InputError: it would raise the same for ever.
        """
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            raise InputError(
                f"{url}: the server's certificate is not trusted; behind a proxy that opens TLS, "
                "set REQUESTS_CA_BUNDLE to the file of its certificate authority"
            ) from None
        if isinstance(error, requests.TooManyRedirects | ValueError):
            # requests derives its exceptions for wrong addresses from ValueError.
            raise InputError(f"{url}: cannot be asked for ({text}); {_OTHER_PLACE}") from None
        if isinstance(error, requests.exceptions.ProxyError):
            return cls("the proxy does not let it through (HTTPS_PROXY, NO_PROXY)")
        if re.search("NameResolution|getaddrinfo|Name or service", text):
            return cls("the server's name is not known here; is there a network?")
        if isinstance(error, requests.Timeout) or "timed out" in text:
            return cls("no answer in time")
        return cls("the connection failed or was cut")


class BodyInfo(NamedTuple):
    """A body that is worth reading.

    Attributes:
        start: its first byte's place in the file; 0 for a whole file.
        total: bytes of the whole file, None when a chunked body will tell its own end.
        validator: what identifies this state of the file for If-Range.
    """

    start: int
    total: int | None
    validator: str | None


def classify_response(response: requests.Response, start: int, size: int | None) -> BodyInfo:
    """What a response is for a request from byte `start` on.

    Args:
        response: its headers.
        start: what was asked for; 0 for the whole file.
        size: what the file should have, None when unknown.

    Raises:
        TemporaryError: try again.
        InputError: trying again will not help.
    """
    status = response.status_code
    if status == 416:
        # The part is longer than the file: there is another file now.
        return _changed(response)
    _refuse_errors(response)
    if "text/html" in response.headers.get("Content-Type", ""):
        raise InputError(
            f"{response.url}: a web page came instead of the file (a login or proxy page?); "
            f"open the address in a browser, then {_OTHER_PLACE}"
        )
    if status == 206:
        return _rest(response, start)
    return _whole(response, size)


def _refuse_errors(response: requests.Response) -> None:
    status, url = response.status_code, response.url
    said = f"HTTP {status} {response.reason or ''}".strip()
    if status in _TRY_AGAIN or status >= 500:
        raise RetryableError(said, retry_after_s(response.headers.get("Retry-After")))
    if status in (404, 410):
        raise InputError(f"{url}: not there ({said}); {_OTHER_PLACE}")
    if status not in (200, 206):
        raise InputError(f"{url}: refused ({said}); {_OTHER_PLACE}")


def _whole(response: requests.Response, size: int | None) -> BodyInfo:
    headers = response.headers
    total = _number(headers.get("Content-Length"))
    if total is not None and size is not None and total != size:
        raise InputError(
            f"{response.url}: has {total} bytes instead of {size}, so it is another file; "
            f"{_OTHER_PLACE}"
        )
    if total is None and "chunked" not in headers.get("Transfer-Encoding", "").lower():
        total = size
        if size is None:
            raise InputError(
                f"{response.url}: the server does not say how large the file is, so a cut "
                "connection could not be told from its end; give its size in the table of sources"
            )
    return BodyInfo(0, total, _validator(response))


def _rest(response: requests.Response, start: int) -> BodyInfo:
    found = re.fullmatch(
        r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    if not found or int(found[1]) != start or found[3] == "*":
        return _changed(response)
    return BodyInfo(start, int(found[3]), _validator(response))


def _changed(response: requests.Response) -> BodyInfo:
    raise ChangedError(f"another range than the one asked for (HTTP {response.status_code})")


class ChangedError(RetryableError):
    """What has come does not go with what the server has now: start from nothing."""


def _validator(response: requests.Response) -> str | None:
    """A strong ETag, or the time of the last change; weak ETags do not go with ranges."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def retry_after_s(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks to wait: it holds a number or a date."""
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None
