"""The envelope: canonical, sealed, and every change of it is seen."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.core import canonical
from lllm.core import envelope as codec
from lllm.core.envelope import FORMAT, open_event, seal, verify_chain
from lllm.errors import LogCorrupt, LogError
from tests.log.events import BEGAN, Writer, bodies

text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def chain(count: int = 4) -> list[bytes]:
    data: list[Any] = [
        {"task": "x"},
        {"hash": "sha256:" + "0" * 64, "prev": '"hash":"sha256:'},
        [1.5, -0.0, "é🜁"],
        None,
    ]
    writer = Writer('a "session"')
    return bodies([writer.event("Noted", data[n % 4], call=f"c{n}" if n % 2 else None) for n in range(count)])


def refused(log: list[bytes], session: str | None = None, events: int | None = None) -> LogCorrupt:
    with pytest.raises(LogCorrupt) as caught:
        verify_chain(log, session=session, events=events)
    return caught.value


@given(json_values, text, text | st.none(), text | st.none(), text)
def test_the_body_is_the_canonical_encoding(
    data: Any, session: str, call: str | None, dialog: str | None, kind: str
) -> None:
    record = seal(session, 7, BEGAN, call, dialog, kind, data, "sha256:" + "a" * 64)
    event = {
        "v": FORMAT, "session": session, "seq": 7, "at": BEGAN, "call": call, "dialog": dialog, "kind": kind,
        "data": data, "prev": "sha256:" + "a" * 64,
    }  # fmt: skip
    digest = "sha256:" + hashlib.sha256(canonical.encode(event)).hexdigest()
    assert record.hash == digest
    assert record.body == canonical.encode({**event, "hash": digest})
    assert record == (session, 7, BEGAN, kind, call, digest, record.body)
    assert b"\n" not in record.body
    opened = open_event(record.body)
    assert opened["hash"] == digest
    assert canonical.encode(opened) == record.body  # what was read can be written again


@given(json_values)
def test_the_quick_encoder_is_the_canonical_one(value: Any) -> None:
    assert canonical.encode(value) == canonical._slow(value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.floats(1e-4, 1e-2) | st.floats(1e14, 1e17))
def test_the_quick_encoder_writes_floats_as_the_canonical_one(value: float) -> None:
    assert canonical.encode([value]) == canonical._slow([value])


@pytest.mark.parametrize(
    "value", [float("nan"), [float("inf")], {"a": {"b": -float("inf")}}, "\ud800", {"\ud800": 1}]
)
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        seal("s", 0, BEGAN, None, None, "Noted", value, "")


@pytest.mark.parametrize("value", [{1: 2}, {None: 1}, b"bytes", {1, 2}, object(), [object()]])
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        seal("s", 0, BEGAN, None, None, "Noted", value, "")


def test_a_log_proves_itself() -> None:
    log = chain(9)
    head = verify_chain(log, session='a "session"', events=9)
    assert head == json.loads(log[-1])["hash"]
    assert verify_chain([]) == ""
    assert [open_event(body)["seq"] for body in log] == list(range(9))


@settings(max_examples=400)
@given(st.data())
def test_any_changed_byte_is_seen(data: st.DataObject) -> None:
    log = chain()
    event = data.draw(st.integers(0, len(log) - 1))
    place = data.draw(st.integers(0, len(log[event]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != log[event][place]))
    log[event] = log[event][:place] + bytes([byte]) + log[event][place + 1 :]
    assert refused(log).seq == event
    with pytest.raises(LogCorrupt):
        open_event(log[event])


@settings(max_examples=200)
@given(st.data())
def test_any_inserted_or_removed_byte_is_seen(data: st.DataObject) -> None:
    log = chain()
    event = data.draw(st.integers(0, len(log) - 1))
    place = data.draw(st.integers(0, len(log[event]) - 1))
    added = data.draw(st.binary(max_size=3))
    log[event] = log[event][:place] + added + log[event][place + (not added) :]
    assert refused(log).seq == event


def test_each_byte_of_an_event_counts() -> None:
    body = chain()[1]
    for place in range(len(body)):
        for other in (body[place] ^ 1, body[place] ^ 0x20):
            with pytest.raises(LogCorrupt):
                open_event(body[:place] + bytes([other]) + body[place + 1 :])
        with pytest.raises(LogCorrupt):
            open_event(body[:place])


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b'"at":', b'"at": '),
        lambda body: body + b"\n",
        lambda body: b" " + body,
        lambda body: body.replace(b'"task"', b'"t\\u0061sk"'),
        lambda body: json.dumps(json.loads(body)).encode(),
        lambda body: json.dumps(dict(reversed(json.loads(body).items())), separators=(",", ":")).encode(),
        lambda body: body.replace(b"sha256:a", b"sha256:A"),
    ],
)
def test_the_same_value_in_other_bytes_is_seen(change: Any) -> None:
    number = 0
    body = b""
    while b'"hash":"sha256:a' not in body:  # one whose hash has a letter where the last change wants it
        body = seal("s", 0, BEGAN + number, None, None, "Noted", {"task": "x"}, "").body
        number += 1
    assert change(body) != body
    assert refused([change(body)]).seq == 0


EMPTY = (
    b'"hash":"sha256:' + hashlib.sha256(b"").hexdigest().encode() + b'",'
)  # vouches for itself and is no event


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b'{"hash":"sha256:"}', b"{}" * 99, EMPTY]
)
def test_what_is_not_an_event(body: bytes) -> None:
    with pytest.raises(LogCorrupt):
        open_event(body)


def test_missing_repeated_and_swapped_events_are_seen() -> None:
    log = chain(5)
    assert refused(log[1:]).seq == 0
    error = refused(log[:2] + log[3:])
    assert (error.seq, "event 2" in str(error), "missing" in str(error)) == (2, True, True)
    assert refused([*log[:3], log[2], *log[3:]]).seq == 3
    assert refused([log[0], log[2], log[1], *log[3:]]).seq == 1
    assert refused(log[:4], events=5).seq == 4
    assert refused(log, events=4).seq == 5


def test_events_of_another_session_are_seen() -> None:
    one, other = Writer("one"), Writer("other")
    log = bodies([one.event(), one.event()])
    assert refused([log[0], bodies([other.event(), other.event()])[1]]).seq == 1
    assert refused(log, session="other").seq == 0


def test_an_event_sealed_anew_breaks_the_chain() -> None:
    log = chain(4)
    event = open_event(log[1])
    forged = seal(
        event["session"], 1, event["at"], event["call"], None, event["kind"], "other", event["prev"]
    )
    assert refused([log[0], forged.body, *log[2:]]).seq == 2


def test_a_later_format_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "FORMAT", FORMAT + 1)
    body = seal("s", 0, BEGAN, None, None, "Noted", None, "").body
    monkeypatch.undo()
    with pytest.raises(
        LogError, match=f"log format {FORMAT + 1}; this lllm reads formats up to {FORMAT}"
    ) as caught:
        open_event(body)
    assert not isinstance(caught.value, LogCorrupt)
    assert "git pull && pip install ." in str(caught.value)


def test_an_older_format_is_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    log = chain(2)
    monkeypatch.setattr(
        codec, "UPGRADES", [lambda event: {**event, "v": 2, "lane": 0}, lambda event: {**event, "v": 3}]
    )
    monkeypatch.setattr(codec, "FORMAT", 3)
    assert open_event(log[0]) | {"v": 3, "lane": 0} == open_event(log[0])
    assert verify_chain(log) == json.loads(log[-1])["hash"]
