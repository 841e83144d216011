"""The parts of the library llguidance, which enforces grammars, that lllm uses, and the differences between its
releases."""

from __future__ import annotations

from typing import Any, Final

from lllm.backends.local.packages import open_library

NAMES: Final = (
    "LLTokenizer",
    "LLParserLimits",
    *(
        f"LLMatcher.{name}"
        for name in (
            "grammar_from_json_schema", "grammar_from_lark", "compute_logit_bias", "consume_token", "deep_copy", "get_error",
            "is_error", "is_stopped",
        )
    ),
)  # fmt: skip
"""The names used from the module."""


def open_llguidance() -> Any:
    """Imports the module. Raises DependencyError and LLMInitializationError."""
    return open_library(
        "llguidance", NAMES,
        package="llguidance", extra="transformers", purpose="a structured reply of a local model",
    )  # fmt: skip


def quiet_limits(library: Any) -> Any:
    """The limits of a parser whose errors omit the reply, if the release supports that."""
    quiet = {"verbose_errors": False} if hasattr(library.LLParserLimits, "verbose_errors") else {}
    return library.LLParserLimits(**quiet)
