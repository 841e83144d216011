"""Which names and values count as secrets."""

from __future__ import annotations

import pytest

from lllm.core.redact import Redactor
from lllm.core.secret_names import header_parts, looks_secret, secret_parts


@pytest.mark.parametrize(
    "name",
    """
    OPENAI_API_KEY HF_TOKEN AWS_SECRET_ACCESS_KEY DB_PASSWORD DB_PASS MYSQL_PWD PASSWD SSHPASS REDISCLI_AUTH github_pat
    AZURE_DEVOPS_EXT_PAT APP_SIGNING_KEY API_KEY1 OPENAI_KEY_2 API_KEYS DISCORD_BOT_TOKENS SENTRY_DSN SLACK_WEBHOOK_URL
    VAULT_SECRET_ID AZURE_STORAGE_CONNECTION_STRING CONN_STR SECRET_KEY_BASE JWT_SECRET SAS_TOKEN apiKey accessToken
    my.api.key x-api-key app-password APIKEY PGPASSWORD ACCESSTOKEN KEY TOKEN X_AUTHORIZATION SESSION_COOKIE
    """.split(),
)
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    """
    PATH HOME PWD OLDPWD TERM KEYBOARD KEYBOARD_LAYOUT MONKEY MONKEYS COMPASS BYPASS PASS_RATE AUTHOR PATIENT
    SSH_AUTH_SOCK AWS_ACCESS_KEY_ID TOKEN_FILE KEY_FILE MAX_TOKENS TOKENS_PER_MINUTE TOKENIZERS_PARALLELISM TOKEN_LIMIT
    TOKEN_URL DATABASE_URL AUTH_MODE api_key_env SSH_PUBLIC_KEY STRIPE_PUBLISHABLE_KEY first_token EOS_TOKEN DESKTOP_SESSION
    _
    """.split(),
)
def test_names_of_other_things(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("DATABASE_URL", "postgres://u:s3cr%40tword@h/db", {"s3cr%40tword", "s3cr@tword"}),
        ("ANYTHING", "redis://:longpassword1@h:6379/0", {"longpassword1"}),
        ("DATABASE_URL", "mysql://root:p@ss/w0rd99@h/db", {"p@ss/w0rd99"}),  # nobody quoted it
        ("https_proxy", "http://me:hunter2hunter2@proxy:3128", {"hunter2hunter2"}),
        ("HTTPS_PROXY", "me:hunter2hunter2@proxy:3128", {"hunter2hunter2"}),
        ("REPO", "https://x-access-token:abcdefgh12@github.com/a/b", {"abcdefgh12"}),
        ("REPO", "https://0123456789abcdef0123@github.com/a/b", {"0123456789abcdef0123"}),
        ("STORAGE", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=abcdEFGH1234+/==", {"abcdEFGH1234+/=="}),
        ("BLOB_URL", "https://a.blob.core/x?sv=2022&sig=abc%2Bdef%3D12", {"abc%2Bdef%3D12", "abc+def=12"}),
        ("PGCONN", "host=h user=u password='abc def gh'", {"abc def gh"}),
        ("CACHE", "host:6380,password=zzzzzzzz1,ssl=True", {"zzzzzzzz1"}),
        ("JAVA_OPTS", "-Xmx1g -Ddb.password=hunter2hunter2 -ea", {"hunter2hunter2"}),
        ("HEADER", "Bearer abcdefghijkl", {"abcdefghijkl"}),
        ("ACCOUNT", '{"type": "service", "private_key": "-----BEGIN PRIVATE KEY-----\\nMIIE\\n"}',
         {"-----BEGIN PRIVATE KEY-----\nMIIE\n"}),
        ("IDENTITY", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n", {"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n"}),
        ("FOO", "ghp_0123456789abcdefghij0123", {"ghp_0123456789abcdefghij0123"}),
        ("ARGS", "--token hf_0123456789abcdefghij -v", {"hf_0123456789abcdefghij"}),
        ("API_KEYS", "abcdefgh1,ijklmnop2", {"abcdefgh1", "ijklmnop2"}),
        ("A_TOKEN", " abcdefgh1\n", {"abcdefgh1", " abcdefgh1\n"}),
        ("AWS_SECRET_ACCESS_KEY", "/wJalrXUtnFEMI/K7MDENG", {"/wJalrXUtnFEMI/K7MDENG"}),
        ("DB_PASS", "12345678", {"12345678"}),
    ],
)  # fmt: skip
def test_parts_of_values(name: str, value: str, parts: set[str]) -> None:
    found = set(secret_parts(name, value))
    assert parts <= found
    text = Redactor.from_environment({name: value}).text(f"it is {value}!")
    for part in parts:
        assert part not in text


def test_an_address_is_a_secret_as_a_whole() -> None:
    redactor = Redactor.from_environment({"DATABASE_URL": "postgres://me:pw@host/db"})
    assert redactor.text("at postgres://me:pw@host/db, not postgres://host/db") == (
        "at [redacted:DATABASE_URL], not postgres://host/db"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEPLOY_KEY", "production"),
        ("API_KEY", "not-needed"),
        ("A_SECRET", "tool_calls"),
        ("A_SECRET", "arguments"),
        ("SSH_KEY", "/home/me/.ssh/id_ed25519"),
        ("TLS_KEY", "./certificates/tls.pem"),
        ("GOOGLE_CREDENTIALS", "~/.config/gcloud.json"),
        ("WINDOWS_KEY", r"C:\Users\me\key.pem"),
        ("MAX_KEY", "1_000_000_000"),
        ("SECRET", "--------"),
        ("SECRET", "<your secret here>"),
        ("SECRET", "${OTHER_SECRET}"),
        ("IMAGE", "python:3.11@sha256:0123456789abcdef"),
        ("TASK", "task-management-system-x1"),
        ("LS_COLORS", "rs=0:di=01;34:ln=01;36"),
        ("BASE", "http://localhost:8000/v1"),
        ("MAIL", "me@example.com"),
        ("SHELL", "/bin/bash"),
    ],
)
def test_values_that_are_ordinary_text(name: str, value: str) -> None:
    assert secret_parts(name, value) == ()


def test_prose_that_speaks_of_an_address_is_no_secret() -> None:
    words = "Connect to postgres://user:s3cretword@host/db and count the rows."
    assert words not in secret_parts("PROMPT", words)
    assert "s3cretword" in secret_parts("PROMPT", words)


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("X", "sk-anything", {"sk-anything"}),
        ("X-Gateway", "Bearer abc-def-ghi", {"Bearer abc-def-ghi", "abc-def-ghi"}),
        ("User-Agent", "my-program/1.0", set()),
        ("HTTP-Referer", "https://example.com/mine", set()),
        ("Content-Type", "application/json", set()),
    ],
)
def test_headers(name: str, value: str, parts: set[str]) -> None:
    assert set(header_parts(name, value)) == parts
