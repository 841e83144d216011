"""What counts as a secret: one table for environment variables, lines of `.env`, configuration keys, and headers.

Either the name shows that the value is a secret (`OPENAI_API_KEY`, `DB_PASS`, `GITHUB_PAT`) or the value itself does
(`postgres://user:word@host`, `ghp_...`). docs/guides/secrets.md explains the rules and their limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final
from urllib.parse import unquote

WORDS: Final = frozenset(
    """
    KEY APIKEY TOKEN SECRET SECRETS PASSWORD PASSWORDS PASSWD PASSPHRASE PASSCODE CREDENTIAL CREDENTIALS CRED CREDS
    AUTHORIZATION BEARER COOKIE COOKIES DSN WEBHOOK JWT OTP TOTP MNEMONIC SAS CONNSTR
    """.split()
)
"""A name that contains one of these words holds a secret. Words are separated by `_`, `-`, `.` or a capital letter
(`apiKey`); digits at the end of a word are ignored (API_KEY1)."""

LAST: Final = frozenset("AUTH OAUTH PASS PAT PW PWD".split())
"""A name that ends with one of these words holds a secret (DB_PASS, but not PASS_RATE)."""

ENDINGS: Final = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PWD")
"""A word with one of these endings counts too: ACCESSTOKEN, PGPASSWORD, SSHPASS."""

ORDINARY_WORDS: Final = frozenset(
    """
    MONKEY DONKEY TURKEY WHISKEY HOCKEY JOCKEY LACKEY MICKEY HOTKEY PUBKEY PUBLICKEY
    COMPASS BYPASS ENCOMPASS OVERPASS SURPASS TRESPASS UNDERPASS
    """.split()
)
"""Words with such an ending that do not mean a secret."""

SEVERAL: Final = frozenset("KEYS TOKENS".split())
QUALIFIERS: Final = frozenset(
    "ACCESS API AUTH BOT ENCRYPTION LICENSE MASTER PRIVATE REFRESH SECRET SERVICE SIGNING SSH".split()
)
"""KEYS and TOKENS mean secrets next to one of these words (API_KEYS, but not MAX_TOKENS)."""

PAIRS: Final = (("CONNECTION", "STRING"), ("CONN", "STRING"), ("CONN", "STR"))
"""Pairs of words that mean a secret."""

DESCRIBES: Final = frozenset(
    """
    PATH FILE DIR FILENAME FOLDER SOCK ID IDS COMMAND CMD HELPER URL URI ENDPOINT HOST PORT NAME VERSION TYPE MODE FORMAT
    ALGORITHM ALG LENGTH SIZE COUNT LIMIT LIMITS TTL EXPIRY EXPIRES EXPIRATION AGE TIMEOUT PREFIX SUFFIX HEADER ENABLED
    DISABLED REQUIRED POLICY ROTATION INTERVAL PROVIDER REGION SCOPE SCOPES AUDIENCE ISSUER ENV VAR FIELD BACKEND USED
    DATE CREATED UPDATED ROTATED
    """.split()
)
"""A name that ends with one of these words holds no secret: it says where a secret is or describes it."""

DESCRIBED_SECRETS: Final = (("WEBHOOK", "URL"), ("WEBHOOK", "URI"), ("SECRET", "ID"))
"""Exceptions to the above: knowing a web hook's address is enough to write to it."""

NOT_SECRET: Final = frozenset(
    """
    PWD OLDPWD PUBLIC_KEY PUBLISHABLE_KEY SORT_KEY PARTITION_KEY FOREIGN_KEY
    FIRST_TOKEN BOS_TOKEN EOS_TOKEN PAD_TOKEN STOP_TOKEN UNK_TOKEN
    """.split()
)
"""Names that hold no secret; those of two words also at the end of a name (STRIPE_PUBLIC_KEY)."""

PLAIN_HEADERS: Final = frozenset(
    """
    accept accept-encoding accept-language cache-control connection content-type host http-referer openai-beta
    openai-organization openai-project origin referer user-agent x-title anthropic-version anthropic-beta
    """.split()
)
"""Headers that hold no secret; any other configured header may."""

ORDINARY: Final = frozenset(
    """
    adaptive administrator anonymous anything application assistant authenticated authentication authorization
    automatic available background certificate changeit changeme checksum classical cloudflare collection community
    compatible complete completed compressed conditional confidential configuration configured connection conservative
    container continuous credential credentials database datadog-agent debugging dedicated deployed deployment
    deprecated destination deterministic developer development directory disabled disallow distributed document
    documents domestic download dynamically elasticsearch embedded embedding emergency encrypted encryption enterprise
    environment europe-west1 evaluation evaluator everybody everyone everything example.com exclusive experimental
    exponential extended extension external fallback federated filesystem firewall forbidden frontend function
    generated generative generator global-only guardrails hardware heartbeat hierarchical horizontal hostname
    identifier identity immediate implementation included incremental indefinite indefinitely information
    informational inherited input-only insecure inspection instance instances institution instructions integration
    interactive interface internal international invisible isolated javascript jupyterhub keyboard kubernetes language
    lightweight llama.cpp lm-studio local-only localhost location machine-learning maintenance management mandatory
    marketing marketplace maximum-only messages metadata mistralai monitoring multi-tenant multiple multiplier
    namespace necessary networking nightly-build no-key-required no-token nonexistent not-applicable not-needed
    not-required not-used notfound notification notifications notneeded notrequired official openrouter operational
    operations operator optimistic optional ordinary organisation organization original otherwise parallel partially
    passthrough password passwords performance permanent permissive persistent personal pessimistic placeholder
    plaintext platform pointless postgres postgresql preferred preproduction previous privileged production
    professional programmatic prometheus prototype provider provisioned published python-only qualified quarterly
    rabbitmq read-only read-write readonly readwrite recommended recursive redacted reference registered registration
    registry regression released reliable replacement replicated repository required research reserved resource
    resources response restricted reviewed rollback rotating sandboxed scheduled secondary selective sequential
    sequentially serverless service-account services settings sharepoint signature simulated simulation singleton
    snapshot software something specific specified staging-only standalone standard statistics straight streaming
    structured subscriber subscription supervised supervisor supported suspended switched symmetric synchronous
    synthetic technical template temporary terminal terraform threshold timestamp transaction transactions
    transitional translation transparent ubuntu-latest unavailable uncompressed undefined unencrypted unittest
    universal unknown-user unlimited unmanaged unprotected unrestricted unsecured unspecified unsupported untrusted
    us-east-1 us-west-2 username utilities validated validation variable verified vertical visitors volatile warnings
    whatever wildcard workflow workspace your-api-key your-key your-token your_api_key
    """.split()
)
"""Values that are ordinary words or placeholders: replacing them everywhere would make text unreadable. Values shorter
than eight characters are never replaced."""

OURS: Final = frozenset(
    """
    approval approved arguments assistant backoff_base backoff_cap cached_tokens cancelled completion completion_tokens
    concurrent content_filter deadline developer exception finish_reason frontend function functions handler_failed handlers
    idempotent image_url input_audio interrupt interrupted logprobs max_cost max_exception_retry max_interrupt_times
    max_llm_recall max_model_calls max_tokens max_tokens_total media_type parser_args prompt_token_ids prompt_tokens
    provider_failed reasoning reasoning_content repair_exhausted repeat_limit repeatable repetition retryable scripted
    template temperature thinking token_ids tool_budget tool_call_id tool_calls top_logprobs total_tokens uncertain unmatched
    unreadable
    """.split()
)
"""Words used in events. A secret equal to one is not replaced: the log would be unreadable without it."""

_NUMBER: Final = re.compile(
    r"[-+]?[\d_,]*(?:\.\d+|000)(?:[eE][-+]?\d+)?\s?(?:%|[kmgt]?i?b?|ms|s|m|h|d)?", re.IGNORECASE
)
"""A fraction or a round number: any other number may be a secret."""
_PLACE: Final = re.compile(
    r"(?:~|\.{1,2})?/(?:(?:home|root|usr|etc|var|opt|tmp|run|mnt|srv|dev|proc|bin|lib|media|Users|Library|app|apps|data"
    r"|workspace|workspaces|secrets|Volumes|private|nix|snap)(?:/[^\n]*)?)|~/[^\n]*|\.{1,2}/[^\n]*|[A-Za-z]:\\[^\n]*"
)
_UNFILLED: Final = re.compile(r"<[^<>]*>|\$\{?[A-Za-z_]\w*\}?|\{\{[^{}]*\}\}|\[[a-z ]*\]")

_KNOWN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-(?=[^\s]*\d)[A-Za-z0-9_-]{16,}|(?:sk|rk)_(?:live|test)_\w{10,}|whsec_[\w+/=-]{16,}"
    r"|gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}|hf_[A-Za-z0-9]{16,}"
    r"|AIza[\w-]{30,}|ya29\.[\w-]{16,}|eyJ[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]*|npm_[A-Za-z0-9]{20,}|pypi-[\w-]{20,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|gsk_\w{16,}|shp(?:at|ca|pa|ss)_\w{16,}|dop_v1_\w{16,}|r8_\w{16,}|pplx-\w{16,}"
    r"|xai-\w{16,}|tvly-\w{10,}|AGE-SECRET-KEY-\w+)"
)
"""Formats of well-known keys: such a value is a secret under any name."""
_ARMOR: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----")
_SCHEME: Final = re.compile(
    r"(?:Bearer|Basic|Token|ApiKey|Digest|Splunk)\s+(\S.*)", re.IGNORECASE | re.DOTALL
)
_ADDRESS: Final = re.compile(r"\S+\Z|[\[{]|[A-Za-z][\w ]{0,40}=")
"""Matches an address, JSON or options as a whole, not prose that contains some."""
_LOGIN: Final = re.compile(r"://([^/?#\s@:]*)(?::([^/?#\s]*))?@")
_UNQUOTED_LOGIN: Final = re.compile(r"://([^/\s@:]*):(?!\d+(?:/|$))(\S+)@[^@\s]")
_BARE_LOGIN: Final = re.compile(r"([^/?#\s@:]+):([^/?#\s]+)@[^/\s@]+")
_OPTION: Final = re.compile(
    r"""(?:^|[?&;,\s-])([A-Za-z][\w .-]{0,40}?)\s{0,3}=\s{0,3}(?:'([^']*)'|"([^"]*)"|([^&;\s'"]+))"""
)


@lru_cache(maxsize=1024)  # each reading of a configuration asks about every environment variable
def looks_secret(name: str) -> bool:
    """True if an environment variable, configuration key or header of that name holds a secret."""
    words = _words(name)
    if not words:
        return False
    joined = "_".join(words)
    if any(joined == known or ("_" in known and joined.endswith(f"_{known}")) for known in NOT_SECRET):
        return False
    if tuple(words[-2:]) in DESCRIBED_SECRETS:
        return True
    if words[-1] in DESCRIBES:
        return False
    if words[-1] in LAST or any(word in WORDS or _ends_secret(word) for word in words):
        return True
    if any(word in SEVERAL for word in words) and not QUALIFIERS.isdisjoint(words):
        return True
    return any(pair in PAIRS for pair in pairwise(words))


def secret_parts(name: str, value: str) -> tuple[str, ...]:
    """The parts of a variable's value that must never be written, longest first; empty if it holds no secret.

    For an address, a connection string, a header or JSON these are the whole value and each secret in it. The caller
    leaves out parts too short to distinguish from ordinary text (`lllm.core.redact.SHORTEST`)."""
    plain = value.strip()
    found = set(_within(plain, name))
    if _words(name)[-1:] == ["HEADERS"]:  # name=value,name=value
        pairs = (item.partition("=") for item in plain.split(",") if "=" in item)
        found |= {part for key, _, given in pairs for part in header_parts(key, unquote(given))}
    if _ARMOR.search(plain):
        found |= {line for line in plain.splitlines() if len(line) >= 16 and "-----" not in line}
    if (found and (looks_secret(name) or _ADDRESS.match(plain))) or _ARMOR.search(plain):
        found |= {plain, value}
    elif looks_secret(name) and not _ordinary(plain):
        found |= {plain, value}
        if _words(name)[-1] in ("KEYS", "TOKENS", "SECRETS", "PASSWORDS"):
            found |= {part for part in re.split(r"[,;\s]+", plain) if not _ordinary(part)}
    return _sorted(found)


def header_parts(name: str, value: str) -> tuple[str, ...]:
    """The same for a configured header: all but PLAIN_HEADERS may hold a secret, whatever their name is."""
    plain = value.strip()
    found = set(_within(plain, name))
    if found or (name.strip().lower() not in PLAIN_HEADERS and not _ordinary(plain)):
        found |= {plain, value}
    return _sorted(found)


def _sorted(found: set[str]) -> tuple[str, ...]:
    return tuple(sorted(filter(str.strip, found), key=lambda text: (-len(text), text)))


def _words(name: str) -> list[str]:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    words = (word.rstrip("0123456789") for word in re.split(r"[^A-Za-z0-9]+", parted.upper()))
    return [word for word in words if word]


def _ends_secret(word: str) -> bool:
    return word.endswith(ENDINGS) and word not in ORDINARY_WORDS and word not in LAST


def _ordinary(value: str) -> bool:
    """True if a value is a word, number or path that may occur in ordinary text."""
    return (
        value.lower() in ORDINARY
        or value in OURS
        or len(set(value)) < 3
        or any(form.fullmatch(value) for form in (_NUMBER, _PLACE, _UNFILLED))
    )


def _within(value: str, name: str) -> Iterator[str]:
    """Yields the secrets in an address, a connection string, a header or JSON."""
    if value[:1] in ("{", "["):
        yield from _of_json(value)
    yield from _KNOWN.findall(value)
    if (header := _SCHEME.fullmatch(value)) is not None and not _ordinary(header.group(1)):
        yield header.group(1)
    if "@" in value:
        yield from _of_login(value, name)
    if "=" in value:
        yield from _of_options(value)


def _of_login(value: str, name: str) -> Iterator[str]:
    logins = [*_LOGIN.findall(value), *_UNQUOTED_LOGIN.findall(value)]
    if not logins and name.upper().endswith(("PROXY", "DSN", "URL", "URI", "ADDR")):
        logins = [found.groups() for found in [_BARE_LOGIN.fullmatch(value.partition("/")[0])] if found]
    for user, word in logins:
        if word:
            yield from (text for text in {word, unquote(word)} if not _ordinary(text))
            yield from {f"{user}:{word}", f"{unquote(user)}:{unquote(word)}"}
        elif len(user) >= 16 and any(char.isdigit() for char in user):
            yield user  # a token without a password: https://TOKEN@github.com


def _of_options(value: str) -> Iterator[str]:
    for option in _OPTION.finditer(value):
        key, word = option.group(1), next(filter(None, option.groups()[1:]), "")
        if word and (key.lower() in _OPTIONS or looks_secret(key)) and not _ordinary(word):
            yield from {word, unquote(word), word.partition(",")[0]}


_OPTIONS: Final = frozenset(
    ("sig", "signature", "x-amz-signature", "x-goog-signature", "x-amz-security-token")
)
"""Query options of an address that are secrets, beside those whose names show it: the signature of a SAS or presigned
URL."""


def _of_json(value: str) -> Iterator[str]:
    try:
        left = [("", json.loads(value))]
    except (ValueError, RecursionError):
        return
    while left:  # no recursion: an environment variable may hold anything
        key, item = left.pop()
        if isinstance(item, dict):
            left += reversed(item.items())
        elif isinstance(item, list):
            left += [(key, part) for part in reversed(item)]
        elif isinstance(item, str) and key:
            yield from secret_parts(key, item)
