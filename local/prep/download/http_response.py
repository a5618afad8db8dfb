"""Classify an HTTP response: full body, range, retryable or fatal."""

from __future__ import annotations

import email.utils
import re
import time
from typing import NamedTuple

import requests

from desed_task.errors import InputError, count_of

_TRY_AGAIN = (408, 425, 429)
_OTHER_PLACE = (
    "correct it in the table of sources (confs/sources.yaml), or give a server that has it with "
    "--mirror URL"
)


class RetryableError(Exception):
    """The same request may succeed later.

    Attributes:
        retry_after_s: wait that the server asks for, None if it names none.
    """

    def __init__(self, what: str, retry_after_s: float | None = None) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s

    @classmethod
    def of(cls, error: Exception, url: str) -> RetryableError:
        """Convert an exception of requests into a short reason.

        Raises:
            InputError: trying again would raise the same error.
        """
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            raise InputError(
                f"{url}: the server's certificate is not trusted; behind a proxy that opens TLS, "
                "set REQUESTS_CA_BUNDLE to the file of its certificate authority"
            ) from None
        if isinstance(error, requests.TooManyRedirects | ValueError):
            # requests derives its exceptions for wrong addresses from ValueError.
            raise InputError(f"{url}: cannot be requested ({text}); {_OTHER_PLACE}") from None
        if isinstance(error, requests.exceptions.ProxyError):
            return cls("the proxy does not let it through (HTTPS_PROXY, NO_PROXY)")
        if re.search("NameResolution|getaddrinfo|Name or service", text):
            return cls("the server's name cannot be resolved; is there a network?")
        if isinstance(error, requests.Timeout) or "timed out" in text:
            return cls("no response in time")
        return cls("the connection failed or was cut")


class BodyInfo(NamedTuple):
    """The body of a usable response.

    Attributes:
        start: offset of its first byte in the file; 0 for a whole file.
        total: size of the whole file in bytes, None if a chunked body marks its own end.
        validator: identifies this version of the file for If-Range.
    """

    start: int
    total: int | None
    validator: str | None


def classify_response(response: requests.Response, start: int, size: int | None) -> BodyInfo:
    """Classify the response to a request from byte `start` on.

    Args:
        response: the response; only its headers are read.
        start: requested offset; 0 for the whole file.
        size: expected size in bytes, None if unknown.

    Raises:
        TemporaryError: try again.
        InputError: trying again will not help.
    """
    status = response.status_code
    if status == 416:
        # The partial file is longer than the file, so the file has changed.
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
        raise InputError(f"{url}: not found ({said}); {_OTHER_PLACE}")
    if status not in (200, 206):
        raise InputError(f"{url}: refused ({said}); {_OTHER_PLACE}")


def _whole(response: requests.Response, size: int | None) -> BodyInfo:
    headers = response.headers
    total = _number(headers.get("Content-Length"))
    if total is not None and size is not None and total != size:
        raise InputError(
            f"{response.url}: has {count_of(total, 'byte')} instead of {size}, so it is a "
            f"different file; {_OTHER_PLACE}"
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
    raise ChangedError(f"a different range than requested (HTTP {response.status_code})")


class ChangedError(RetryableError):
    """The partial file does not match the server's file: start again."""


def _validator(response: requests.Response) -> str | None:
    """Return a strong ETag or Last-Modified; weak ETags are not valid for ranges."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def retry_after_s(value: str | None) -> float | None:
    """Parse a Retry-After header, a number or a date, into seconds to wait."""
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
