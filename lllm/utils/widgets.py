"""Streamlit's widgets where nobody can touch them: what they give, and iterators that somebody has to follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

VALUES: Final[Mapping[str, tuple[int, str, Any]]] = {
    # widget: where its value is among the arguments, under which name, and what it is by default
    "button": (99, "", False),
    "form_submit_button": (99, "", False),
    "download_button": (99, "", False),
    "checkbox": (1, "value", False),
    "toggle": (1, "value", False),
    "text_input": (1, "value", ""),
    "text_area": (1, "value", ""),
    "color_picker": (1, "value", "#000000"),
    "number_input": (3, "value", "min"),
    "slider": (3, "value", "min"),
    "multiselect": (2, "default", []),
}
CHOICES: Final = frozenset(("selectbox", "radio", "select_slider"))
"""Widgets that give one of their options."""


def default(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Returns the value of an untouched widget; None for a value that is not a widget."""
    if name in CHOICES:
        options = list(_argument(args, kwargs, 1, "options", ()))
        index = _argument(args, kwargs, 2, "index", 0) if name != "select_slider" else 0
        return options[index] if options and isinstance(index, int) else None
    if name not in VALUES:
        return None
    value = _argument(args, kwargs, *VALUES[name])
    if value == "min" or (name == "slider" and value is None):
        least = _argument(args, kwargs, 1, "min_value", None)
        return least if least is not None else 0 if name == "slider" else 0.0
    return list(value or ()) if name == "multiselect" and not isinstance(value, str) else value


def follow(name: str, args: Sequence[Any]) -> Any:
    """Follows the iterators among the arguments, as showing them does. What `write_stream` gives: the text, or a list of
    pieces that are not all text."""
    given: Any = None
    for value in args:
        made = value() if name == "write_stream" and callable(value) else value
        if isinstance(made, Iterator):
            pieces = list(made)
            given = "".join(pieces) if all(isinstance(piece, str) for piece in pieces) else pieces
        elif name == "write_stream" and not isinstance(made, str) and hasattr(made, "__iter__"):
            given = follow(name, [iter(made)])
    return given if name == "write_stream" else None


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str, otherwise: Any) -> Any:
    return args[place] if place < len(args) else kwargs.get(name, otherwise)
