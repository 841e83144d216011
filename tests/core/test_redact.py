"""Secrets stay out."""

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.core.redact import Redactor, looks_secret

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


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "github_pat", "X_AUTHORIZATION", "APIKEY",
        "MY_CREDENTIALS", "PGPASSWORD", "SENTRY_DSN", "x-api-key", "OPENAI_KEY_2", "ACCESSTOKEN",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "KEYBOARD",
        "MONKEYS",
        "SSH_AUTH_SOCK",
        "AWS_ACCESS_KEY_ID",
        "TOKEN_FILE",
        "MAX_TOKENS",
        "TERM",
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not looks_secret(name)


def test_from_environment() -> None:
    redactor = Redactor.from_environment({"OPENAI_API_KEY": KEY, "HOME": "/home/somebody", "TINY_KEY": "x"})
    assert redactor.text(f"{KEY} /home/somebody x") == "[redacted:OPENAI_API_KEY] /home/somebody x"
