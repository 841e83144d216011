"""Compares the schemas sent to providers with the original schemas.

python -m tests.schemas.real                 the schemas that are kept here
python -m tests.schemas.real FOLDER ...      and every schema below some folders: a file is a schema, or {"schema", "tests"}
                                             with instances {"data", "valid"} as MaskBench has them

Ends with 1 when a reference leads nowhere, when an instance has two verdicts, or when a file makes anything but a Format or a
ConfigError.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from lllm.errors import ConfigError, ParseError
from lllm.tools.formats import Format
from lllm.tools.schema import compile_schema, problems

FILE = Path(__file__).parent / "data" / "schemastore.tar.xz"


class Real(NamedTuple):
    """A schema from practice with instances, each beside whether it fits."""

    name: str
    schema: Any
    instances: Sequence[tuple[Any, bool]]


def kept() -> list[Real]:
    """The schemas that are kept here, with instances that fit them."""
    schemas: dict[str, Any] = {}
    instances: dict[str, list[tuple[Any, bool]]] = {}
    with tarfile.open(FILE) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if path.suffix == ".json" and (file := archive.extractfile(member)) is not None:
                value = json.loads(file.read().decode("utf-8-sig"))
                if path.parent.name == "json":
                    schemas[path.stem] = value
                else:
                    instances.setdefault(path.parent.name, []).append((value, True))
    return [Real(name, schema, instances.get(name, ())) for name, schema in schemas.items()]


def below(folder: Path) -> Iterator[Real]:
    for path in sorted(folder.rglob("*.json")):
        try:
            value = json.loads(path.read_text("utf-8-sig"))
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("tests"), list) and "schema" in value:
            yield Real(str(path), value["schema"], [(one["data"], one["valid"]) for one in value["tests"]])
        elif isinstance(value, dict):
            yield Real(str(path), value, ())


def dangling(schema: Any) -> list[str]:
    """Every text under a key `$ref`, wherever it stands, that leads to no place in the schema."""
    found = []
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting += item.values()
            if isinstance(reference := item.get("$ref"), str) and not _leads(schema, reference):
                found.append(reference)
        elif isinstance(item, list):
            waiting += item
    return found


def _leads(schema: Any, reference: str) -> bool:
    try:
        for step in reference.removeprefix("#").split("/")[1:]:
            schema = schema[step]
    except (LookupError, TypeError):
        return False
    return isinstance(schema, Mapping | bool) and (reference == "#" or reference.startswith("#/"))


def check(real: Real) -> tuple[list[str], list[str]]:
    """Problems of a schema's Format, one sentence each, and labels to count."""
    try:
        format = Format.of(real.schema)
    except ConfigError:
        return [], ["refused"]
    assert format is not None
    words = ["strict" if format.strict else "not strict" if format.sent else "not sent"]
    given = compile_schema(real.schema, "given")
    if not format.sent:
        wrong = []
        sent, whole = None, None
    else:
        wrong = [f"{ref} leads nowhere" for ref in {*dangling(format.schema), *dangling(format._whole)}]
        sent, whole = compile_schema(format.schema, "sent"), compile_schema(format._whole, "whole")
        if format.schema.get("type") != "object" or format._whole.get("type") != "object":
            wrong.append("not of an object")
        words += ["wrapped"] if format._wrapped else []
    fitting = []
    for data, _ in real.instances:
        fits = not problems(given, data)
        reply = {"value": data} if format._wrapped else data
        words.append("instances")
        if whole is not None and (not problems(whole, reply)) is not fits:
            wrong.append(f"the schema itself says {fits} of {json.dumps(data)[:80]}")
        if sent is not None and fits:
            fitting.append(not problems(sent, reply))
        try:
            format.load(json.dumps(reply))
            loaded = True
        except ParseError:
            loaded = False
        if loaded is not fits:
            wrong.append(f"load says {loaded} of {json.dumps(data)[:80]}")
    if format.strict and fitting:
        words.append("strict with instances" if any(fitting) else "strict, no instance fits")
    return wrong, words


def main(folders: Sequence[str]) -> int:
    counts: Counter[str] = Counter()
    bad = 0
    for real in [*kept(), *(real for folder in folders for real in below(Path(folder)))]:
        wrong, words = check(real)
        counts.update(["schemas", *words])
        bad += bool(wrong)
        for sentence in wrong:
            print(f"{real.name}: {sentence}")
    for word, count in sorted(counts.items()):
        print(f"{count:8,} {word}")
    print(f"{bad:8,} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
