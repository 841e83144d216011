"""OpenAPI documents of other people, read from the archives here; README.md says where they come from."""

from __future__ import annotations

import json
import lzma
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@cache
def github_bytes() -> bytes:
    """GitHub's document as published: 13 MB of JSON."""
    return lzma.decompress((FOLDER / "api.github.com.json.xz").read_bytes())


@cache
def github() -> dict[str, Any]:
    """GitHub's document, parsed. The value is shared: do not change it."""
    document: dict[str, Any] = json.loads(github_bytes())
    return document


@cache
def examples() -> dict[str, bytes]:
    """The example documents by their path in the package, like `3.1/json/readme.json`."""
    found = {}
    with tarfile.open(FOLDER / "oas-examples.tar.xz") as archive:
        for member in archive:
            if member.name.endswith((".json", ".yaml")) and (file := archive.extractfile(member)) is not None:
                found[member.name] = file.read()
    return found
