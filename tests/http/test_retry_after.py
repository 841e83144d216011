"""The time that a server asks to wait, in each of its forms."""

from __future__ import annotations

import pytest

from lllm.http.retry_after import retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 0.5 "}, 0.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:00 GMT"}, 0.0),
        ({"Retry-After-Ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After-Ms": "inf"}, None),
        ({"Retry-After-Ms": "nan", "Retry-After": "2"}, 2.0),
        ({"Retry-After-Ms": "1e400", "Retry-After": "3"}, 3.0),
        ({"Retry-After": "-inf"}, None),
        ({"Retry-After": "1e999"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Mon, 99 Foo 2026"}, None),
        ({"Retry-After": "\u0661"}, 1.0),
    ],
)
def test_seconds_milliseconds_and_dates(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=100.0) == seconds
