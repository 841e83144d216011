"""Runs the official JSON Schema test suite through `Format`, and prints the table of the guide.

python -m tests.schemas.suite              both drafts
python -m tests.schemas.suite --failures   and each case whose verdict differs

Every case goes the way that a reply goes: the schema becomes a Format, the instance the text of a reply, wrapped where the
Format says so. The schema that is sent to providers is checked beside it: every valid instance must fit that one too.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lllm.errors import ConfigError, ParseError
from lllm.tools.formats import Format
from lllm.tools.schema import compile_schema, problems

FILE = Path(__file__).parent / "data" / "JSON-Schema-Test-Suite.zip"
DRAFTS: Mapping[str, str] = {
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
PARTS = ("required", "optional", "format")
SERVED = "http://localhost:1234/"


class Case(NamedTuple):
    """One instance of the suite. Attributes: part: one of PARTS."""

    draft: str
    part: str
    file: str
    group: str
    schema: Any
    test: str
    data: Any
    valid: bool

    @property
    def name(self) -> str:
        return f"{self.draft}/{self.file}: {self.group}: {self.test}"


class Verdict(NamedTuple):
    """Attributes: accepted: by `Format.load`; None for a schema that is refused. sent: whether the schema that providers get
    accepts it; None where none is sent."""

    accepted: bool | None
    sent: bool | None = None


@cache
def _archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(FILE)


def cases(draft: str) -> Iterator[Case]:
    """Every case of a draft, in the suite's order."""
    prefix = f"tests/{draft}/"
    for path in sorted(
        name for name in _archive().namelist() if name.startswith(prefix) and name.endswith(".json")
    ):
        file = path.removeprefix(prefix)
        part = "format" if "optional/format/" in file else "optional" if "optional/" in file else "required"
        for group in json.loads(_archive().read(path)):
            for test in group["tests"]:
                yield Case(
                    draft,
                    part,
                    file,
                    group["description"],
                    group["schema"],
                    test["description"],
                    test["data"],
                    test["valid"],
                )


def made(case: Case) -> Format | bool:
    """The case's schema as a Format; true and false stay themselves. A schema that refers to a document at
    http://localhost:1234 is refused, so the document is put under its `$defs`, as the message says.

    ConfigError for a schema that is refused even so.
    """
    schema = case.schema
    if isinstance(schema, bool):
        return schema
    if "$schema" not in schema and case.draft != "draft2020-12":
        schema = {"$schema": DRAFTS[case.draft], **schema}
    for number in range(5):
        try:
            found = Format.of(schema)
        except ConfigError as error:
            outside = _OUTSIDE.search(error.message)
            if outside is None or (document := _served(outside[1])) is None:
                raise
            key = "$defs" if case.draft == "draft2020-12" else "definitions"
            added = {f"remote-{number}": {"$id": outside[1], **document}}
            if document.get("$id", outside[1]) != outside[1]:  # it is served under another name than its own
                added[f"served-{number}"] = {"$id": outside[1], "$ref": document["$id"]}
            schema = {**schema, key: {**schema.get(key, {}), **added}}
        else:
            assert found is not None
            return found
    raise ConfigError("too many documents")


_OUTSIDE = re.compile(r"refers to '([^']*)', which is outside the schema")


def _served(address: str) -> dict[str, Any] | None:
    name = "remotes/" + address.removeprefix(SERVED)
    if not address.startswith(SERVED) or name not in _archive().namelist():
        return None
    document = json.loads(_archive().read(name))
    return document if isinstance(document, dict) else None


def verdict(format: Format | bool, case: Case) -> Verdict:
    if isinstance(format, bool):
        return Verdict(not problems(compile_schema(format, "suite"), case.data))
    reply = {"value": case.data} if format._wrapped else case.data
    try:
        format.load(json.dumps(reply))
        accepted = True
    except ParseError:
        accepted = False
    return Verdict(accepted, not problems(_compiled(format), reply) if format.sent else None)


@cache
def _compiled(format: Format) -> Any:
    return compile_schema(format.schema, "sent")


def expected(case: Case) -> bool:
    """The suite's verdict. From 2019-09 on `format` is a remark: the suite's cases for it are for those who check it anyway."""
    return case.valid or (case.part == "format" and case.draft == "draft2020-12")


def verdicts(draft: str) -> Iterator[tuple[Case, Verdict]]:
    """Every case of a draft with what became of it."""
    last: Any = None
    for case in cases(draft):
        if case.schema is not last:
            last = case.schema
            try:
                format: Format | bool | None = made(case)
            except ConfigError:
                format = None
        yield case, Verdict(None) if format is None else verdict(format, case)


def table() -> str:
    """The table of the guide, in Markdown."""
    lines = [
        "| draft | part | cases | same verdict | other verdict | schema refused |",
        "|---|---|---|---|---|---|",
    ]
    for draft in DRAFTS:
        counts: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
        for case, found in verdicts(draft):
            kind = (
                "refused"
                if found.accepted is None
                else "same"
                if found.accepted == expected(case)
                else "other"
            )
            counts[case.part][kind] += 1
        for part, count in counts.items():
            row = (
                f"{number:,}" for number in (count.total(), count["same"], count["other"], count["refused"])
            )
            lines.append(f"| {draft.removeprefix('draft')} | {part} | {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--failures", action="store_true", help="print each case whose verdict differs")
    options = parser.parse_args()
    print(table())
    wrong = [
        (case, found)
        for draft in DRAFTS
        for case, found in verdicts(draft)
        if found.accepted != expected(case) or (case.valid and found.sent is False)
    ]
    if options.failures:
        for case, found in wrong:
            print(f"{case.name}: {found}, the suite says {case.valid}")
    return 1 if any(found.accepted is not None for _, found in wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
