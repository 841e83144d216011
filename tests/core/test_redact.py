"""Secrets stay out."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.core.canonical import encode
from lllm.core.redact import Redactor, agrees

KEY = "sk-proj-Zm9v/bar+baz==9"
MARK = "[redacted:KEY]"


@pytest.fixture
def redactor() -> Redactor:
    return Redactor({"KEY": KEY})


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY),
        quote(KEY, safe=""),
        quote_plus(KEY),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode(),
        KEY.replace("/", "\\/"),
        quote(KEY, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d"),
    ],
)
def test_every_form_is_found(redactor: Redactor, form: str) -> None:
    assert redactor.text(f"GET /?key={form}&x=1") == f"GET /?key={MARK}&x=1"


@given(st.text(min_size=8), st.text(), st.text())
def test_a_secret_is_nowhere(secret: str, before: str, after: str) -> None:
    redactor = Redactor({"K": secret})
    whole = before + secret + after
    for form in (
        whole,
        json.dumps(whole),
        json.dumps(whole, ensure_ascii=False),
        json.dumps(json.dumps(whole)),
    ):
        cleaned = redactor.text(form)
        assert secret not in cleaned.replace("[redacted:K]", "\0") or secret in "[redacted:K]"


@given(st.binary(max_size=7), st.text(st.characters(codec="ascii"), min_size=12), st.binary(max_size=7))
def test_base64_of_a_longer_text(before: bytes, secret: str, after: bytes) -> None:
    redactor = Redactor({"K": secret})
    whole = base64.b64encode(before + secret.encode() + after).decode()
    assert "[redacted:K]" in redactor.text(whole)


def test_a_secret_with_quotes_and_lines() -> None:
    secret = 'pass"word\nÿ\\x'
    redactor = Redactor({"P": secret})
    for value in (secret, {"a": secret}, [secret]):
        assert secret not in json.dumps(redactor.clean(value))
    for written in (json.dumps({"a": secret}), json.dumps({"a": secret}, ensure_ascii=False)):
        assert redactor.text(written) == '{"a": "[redacted:P]"}'


def test_values_are_cleaned_in_depth(redactor: Redactor) -> None:
    value = {"a": [1, None, True, 2.5, {"b": f"x{KEY}y"}], KEY: (KEY, "z"), "c": "plain"}
    assert redactor.clean(value) == {
        "a": [1, None, True, 2.5, {"b": f"x{MARK}y"}], MARK: [MARK, "z"], "c": "plain",
    }  # fmt: skip
    assert value["c"] == "plain"
    assert KEY in value  # the value itself is left alone


def test_what_is_clean_stays_the_same_object(redactor: Redactor) -> None:
    value: Any = {"a": [1, {"b": "x"}, ("y",)], "c": "z" * 1000}
    assert redactor.clean(value) is value
    assert redactor.text(value["c"]) is value["c"]
    dirty = {"a": value, "b": KEY}
    assert redactor.clean(dirty)["a"] is value


def test_short_values_are_left_alone() -> None:
    redactor = Redactor({"A": "", "B": "secret7"})
    assert not redactor
    assert redactor.text("secret7") == "secret7"


def test_an_empty_redactor_looks_at_nothing() -> None:
    value = object()
    assert Redactor().clean(value) is value


def test_the_longest_goes_first() -> None:
    redactor = Redactor({"SHORT": "abcdefgh", "LONG": "abcdefghijkl"})
    assert redactor.text("abcdefghijkl abcdefghij") == "[redacted:LONG] [redacted:SHORT]ij"
    assert Redactor({"LONG": "xabcdefgh", "SHORT": "abcdefgh"}).text("xabcdefgh") == "[redacted:LONG]"


def test_secrets_that_come_later(redactor: Redactor) -> None:
    redactor.add("OTHER", "another-secret")
    assert redactor.text(f"{KEY} another-secret") == f"{MARK} [redacted:OTHER]"
    redactor.add("SHORT", "x")
    assert redactor.text("x") == "x"


def test_from_environment() -> None:
    redactor = Redactor.from_environment({"OPENAI_API_KEY": KEY, "HOME": "/home/somebody", "TINY_KEY": "x"})
    assert redactor.text(f"{KEY} /home/somebody x") == "[redacted:OPENAI_API_KEY] /home/somebody x"


def test_cleaning_twice_changes_nothing() -> None:
    redactor = Redactor({"MY_PASSWORD": "PASSWORD", "B": "redacted:MY"})
    once = redactor.text("the PASSWORD is redacted:MY")
    assert once == "the [redacted:MY_PASSWORD] is [redacted:B]"
    assert redactor.text(once) is once


def test_a_number_may_be_a_secret() -> None:
    redactor = Redactor({"PIN": "1234567890"})
    assert redactor.clean({"a": 1234567890, "b": 123456789, "c": True}) == {
        "a": "[redacted:PIN]",
        "b": 123456789,
        "c": True,
    }
    assert redactor.blob(b'{"a": 1234567890}') == b'{"a": "[redacted:PIN]"}'


def test_whether_there_is_one_is_seen_in_canonical_json(redactor: Redactor) -> None:
    odd = 'pass"word\n\xe9\\x/1'
    redactor.add("ODD", odd)
    for value in (KEY, odd, json.dumps(odd), base64.b64encode(b"x" + odd.encode()).decode()):
        data = {"a": [f"before {value} after"]}
        assert redactor.clean(data) != data
        assert redactor.finds(encode(data))
    assert not redactor.finds(encode({"a": "nothing of that kind"}))


def test_content_of_files() -> None:
    redactor = Redactor({"K": "sk-verysecret"})
    assert redactor.blob(b"a sk-verysecret") == b"a [redacted:K]"
    for code in ("utf-8", "utf-16-le", "utf-16-be"):
        data = b"\x89PNG\xff" + "sk-verysecret".encode(code) + b"\x01\xfe"
        cleaned = redactor.blob(data)
        assert cleaned == b"\x89PNG\xff" + b"*" * len("sk-verysecret".encode(code)) + b"\x01\xfe"
    clean = b"\x89PNG\xff nothing"
    assert redactor.blob(clean) is clean


def test_secrets_added_in_threads_are_all_known() -> None:
    redactor = Redactor()
    values = [f"secret-number-{number:04}" for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda value: redactor.add("K", value), values))
    assert not [value for value in values if redactor.text(value) == value]


@pytest.mark.parametrize(
    ("recorded", "present", "same"),
    [
        ("use [redacted:K]!", "use sk-other!", True),
        ("use [redacted:K]!", "use !", True),
        ("use [redacted:K]!", "use [redacted:OTHER]!", True),
        ("use [redacted:K]!", "use sk-other", False),
        ("use [redacted:K]!", "take sk-other!", False),
        ("[redacted:A] and [redacted:B]", "x and y", True),
        ("[redacted:A] and [redacted:B]", "x or y", False),
        ("aa[redacted:K]aa", "aaa", False),
        ("[redacted:K]", 12345678, True),
        ("[redacted:K]", None, False),
        ("plain", "plain", True),
        ("plain", "other", False),
        ({"a": ["[redacted:K]", 1]}, {"a": ["x", 1]}, True),
        ({"a": ["[redacted:K]", 1]}, {"a": ["x", 2]}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"x [redacted:K]": 1, "b": 2}, {"b": 2, "x sk-other": 1}, True),
        ({"x [redacted:K]": 1}, {"y sk-other": 1}, False),
        ([1], [True], False),
        ([1], [1.0], True),
        ([], {}, False),
    ],
)
def test_two_values_agree_but_for_secrets(recorded: object, present: object, same: bool) -> None:
    assert agrees(recorded, present) is same


@pytest.mark.parametrize(
    "written",
    [
        "key&amp;with&lt;all&gt;of&quot;it&#x27;/+1",
        "key&amp;with&lt;all&gt;of\"it'/+1",
        "key&amp;with&lt;all&gt;of&#34;it&#39;/+1",
        "key\\u0026with\\u003call\\u003eof\\\"it'/+1",
        "key%2526with%253Call%253Eof%2522it%2527%252F%252B1",
    ],
)
def test_forms_of_pages_and_of_other_languages(written: str) -> None:
    known = Redactor({"K": "key&with<all>of\"it'/+1"})
    assert known.text(f"a {written} b") == "a [redacted:K] b"


def test_binary_data_is_free_of_every_form() -> None:
    known = Redactor({"SHORT": "key&1234", "LONG": "key&1234/and+more"})
    for written in (b"key%261234%2Fand%2Bmore", b"key&1234/and+more", base64.b64encode(b"key&1234/and+more")):
        data = b"\xff\x00" + written + b"\x00"
        cleaned = known.blob(data)
        assert len(cleaned) == len(data)
        assert b"key" not in cleaned
        assert b"more" not in cleaned
        assert b"a2V5" not in cleaned
    assert known.blob("key&1234".encode("utf-16-le")) == b"*" * 16  # which is valid UTF-8
