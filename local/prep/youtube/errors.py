"""Classify error messages of yt-dlp and ffmpeg."""

from __future__ import annotations

import re
from enum import Enum

_LONGEST = 160


class Failure(Enum):
    """Kind of failure; the value is the prefix of the clip's reason in the missing table."""

    GONE = "gone"
    SIGN_IN = "sign-in"
    LIMIT = "limit"
    PASSING = "failed"
    OTHER = "error"


# The first match counts; without a match it is Kind.OTHER.
_MEANINGS = (
    (
        Failure.LIMIT,
        r"not a bot|rate.limited|content isn.t available, try again later|HTTP Error 429|captcha",
    ),
    (
        Failure.PASSING,
        r"HTTP Error (403|408|5\d\d)|timed out|timeout|connection|unable to connect|name resolution"
        r"|failed to resolve|getaddrinfo|unreachable|incompleteread|try again later|\bSSL",
    ),
    (Failure.OTHER, r"requested format|on this app"),
    (
        Failure.GONE,
        r"unavailable|not available|no longer available|isn.t available|private video|is private"
        r"|removed|deleted|terminated|in your country|geo.restrict|copyright|members.only"
        r"|join this channel|requires payment|does not exist|\bDRM\b",
    ),
    (Failure.SIGN_IN, r"sign in|log in|login|registered users|age.restricted|inappropriate"),
)


class ClipError(Exception):
    """A clip cannot be fetched; `kind` classifies the failure, the message gives the reason."""

    def __init__(self, kind: Failure, reason: str) -> None:
        super().__init__(reason[:_LONGEST])
        self.kind = kind


def classify_error(message: str) -> Failure:
    """Classify an error message of yt-dlp."""
    for kind, pattern in _MEANINGS:
        if re.search(pattern, message, re.IGNORECASE):
            return kind
    return Failure.OTHER


def last_line(text: str, start: str = "") -> str:
    """Return the last non-empty line that begins with `start`, else the last line."""
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    return next((line for line in reversed(lines) if line.startswith(start)), lines[-1])


def shorten_message(message: str) -> str:
    """Shorten a message to a table cell, without addresses, which are long and personal."""
    message = re.sub(r"^ERROR: (\[[^\]]*\] [\w-]{11}: )?", "", message)
    message = re.sub(r"(https?|tcp|tls)://\S*", "...", message)
    return " ".join(message.split()) or "no reason given"
