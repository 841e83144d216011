"""Reports of transformers on weights that it has read. Tensors that are missing, or of other shapes, it makes up itself."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from lllm.core.visible import visible_line
from lllm.errors import LLMInitializationError

_SHOWN: Final = 3
_TABLE: Final = "rotary_emb.inv_freq"


def check_weights(report: Mapping[str, Any], name: str) -> None:
    """Raises LLMInitializationError for a model that would be random numbers in part.

    Args:
        report: the loading info of `from_pretrained`. name: of the model, for the error.
    """
    wrong = sorted(report.get("mismatched_keys") or ())
    missing = sorted(set(report.get("missing_keys") or ()) - {one[0] for one in wrong})
    if missing:
        raise LLMInitializationError(
            f"{name} lacks {counted(missing)} that its config.json asks for: {named(missing)}",
            hint="Copy the folder again, or correct its config.json.",
        )
    if wrong:
        tensor, found, expected = wrong[0]
        raise LLMInitializationError(
            f"{name} has {counted(wrong)} of other shapes than its config.json says: {visible_line(tensor)} is "
            f"{_shape(found)}, and must be {_shape(expected)}",
            hint="Copy the folder again, or correct its config.json.",
        )


def unused_weights(report: Mapping[str, Any]) -> tuple[str, ...]:
    """The tensors of the files that the model has no place for; but for tables that older versions wrote, and nothing reads."""
    return tuple(sorted(one for one in report.get("unexpected_keys") or () if not one.endswith(_TABLE)))


@contextmanager
def without_report() -> Iterator[None]:
    """Keeps transformers' own table of these off the terminal: `check_weights` says it."""
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(_is_no_report)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_report)


def _is_no_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


def counted(names: Collection[Any]) -> str:
    """Returns the number of tensors."""
    return f"{len(names)} tensor{'s' * (len(names) != 1)}"


def named(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(visible_line, names[:_SHOWN])) + more


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape)) or "a number"
