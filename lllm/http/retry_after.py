"""The time that a server asks to wait."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Returns seconds to wait, from `Retry-After-Ms`, or `Retry-After` in seconds or as a date; None without either.
    `now` is in seconds since the epoch."""
    milliseconds = _seconds(headers.get("Retry-After-Ms") or "")
    if milliseconds is not None:
        return milliseconds / 1000
    value = (headers.get("Retry-After") or "").strip()
    if (seconds := _seconds(value)) is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError, TypeError, OSError):
        return None


def _seconds(text: str) -> float | None:
    """Returns a finite number >= 0; None for other text."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return max(0.0, seconds) if seconds - seconds == 0 else None
