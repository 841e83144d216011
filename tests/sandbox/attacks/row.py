"""A row of the table of attacks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

VARIANTS: Final = (
    "namespace/root",
    "namespace/user",
    "forked/root",
    "forked/user",
    "process/root",
    "process/user",
)
"""How kernels are isolated (`forked`: those of the tier `namespace` that come from a zygote), and whether lllm is root."""

WORDS: Final = {
    "stopped": "it fails",
    "bounded": "it is ended or held at its limit, and what it did is undone or goes with the sandbox",
    "open": "it succeeds",
}


class Row(NamedTuple):
    """One attack.

    Attributes:
        what: what is tried, for people.
        code: the cell. It prints `VERDICT open` where it has got through; fails, or prints `VERDICT stopped`, where not. `P`
            holds what it is told of the world (see harness.py); `call(name, ...)` makes a system call.
        expected: one of WORDS by variant, or by tier for both variants of it; the rest is `stopped`.
        check: what the harness looks at from outside afterwards (see harness.py); "" for nothing.
        control: why there is no control: the same code where its limit is off, which must be `open`. "" where there is one.
        seconds: time limit of the cell.
        keeps: whether the kernel must have lived on.
    """

    what: str
    code: str
    expected: Mapping[str, str] = MappingProxyType({})
    check: str = ""
    control: str = ""
    seconds: float = 20.0
    keeps: bool = False

    def expect(self, variant: str) -> str:
        """What is expected of a variant."""
        tier = variant.partition("/")[0].replace("forked", "namespace")
        return self.expected.get(variant, self.expected.get(tier, "stopped"))


BOUNDED: Final = {"namespace": "bounded", "process": "bounded"}
EVERYWHERE: Final = "the limit is one that the machine has always"
