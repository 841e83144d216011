"""Points in time as people type them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from lllm.errors import ConfigError

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(
    value: str | date | datetime | timedelta, key: str, *, end: bool = False, now: datetime | None = None
) -> int:
    """Microseconds since the epoch.

    Arguments:
        value: `2h` (so long ago; s, m, h, d, w), an ISO date or time (`2026-11-21`, `2026-11-21T14:30`), or the objects
            themselves. Without a zone it is this machine's.
        key: what the value is for, in an error.
        end: a date means the end of that day, not its beginning.

    Raises:
        ConfigError: it is neither.
    """
    now = datetime.now().astimezone() if now is None else now.astimezone()
    try:
        if isinstance(value, str):
            if (span := _SPAN.fullmatch(value.strip())) is not None:
                value = timedelta(**{_UNITS[span[2]]: float(span[1])})
            else:
                text = value.strip()
                value = date.fromisoformat(text) if len(text) <= 10 else datetime.fromisoformat(text)
        if isinstance(value, timedelta):
            value = now - value
        elif not isinstance(value, datetime):
            value = datetime.combine(value, time.max if end else time.min)
        return round(value.astimezone().timestamp() * 1_000_000)
    except (ValueError, OverflowError, OSError):
        raise ConfigError(
            f"{key} is {value!r}, which is no time",
            hint="Give how long ago (90m, 2h, 30d, 1w), a date (2026-11-21), or a date and time (2026-11-21T14:30).",
        ) from None


def iso(at: int) -> str:
    """Microseconds since the epoch, as ISO 8601 in UTC."""
    return (
        datetime.fromtimestamp(at / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
