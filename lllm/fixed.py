"""Objects whose settings are given when they are made: setting an attribute that nobody reads is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lllm.errors import FixedSettingError


class Fixed:
    """Base of such objects. Attributes with a leading underscore can be set, methods can be replaced, `_settable` lists what
    takes effect later on. Subclasses of a user may set attributes of their own, unless `_fixed` has the name.

    Raises:
        FixedSettingError: any other attribute is set.
    """

    _settable: ClassVar[frozenset[str]] = frozenset()
    _fixed: ClassVar[Mapping[str, str]] = {}
    """What to write in place of setting an attribute, by its name."""
    _instead: ClassVar[str] = ""
    """The same for names that are not in `_fixed`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] != "_" and name not in self._settable:
            kind = type(self)
            if name in self._fixed or ("_settable" in vars(kind) and not callable(getattr(kind, name, None))):
                raise FixedSettingError(
                    kind.__name__, name, self._fixed.get(name, self._instead).format(name)
                )
        object.__setattr__(self, name, value)
