"""Writes lllm/vocabularies/ from the npm package `tiktoken`: python scripts/vocabularies.py FOLDER

FOLDER is where `npm pack tiktoken` was unpacked. A file holds the byte strings of a vocabulary in the order of their ranks,
each behind one byte that says how long it is, compressed with xz.
"""

from __future__ import annotations

import base64
import json
import lzma
import sys
from pathlib import Path

NAMES = ("o200k_base", "cl100k_base")


def read(path: Path) -> list[bytes]:
    """The byte strings of one of the package's files, by rank."""
    ranks: dict[bytes, int] = {}
    for line in json.loads(path.read_text())["bpe_ranks"].splitlines():
        _, first, *tokens = line.split(" ")
        ranks |= {base64.b64decode(token): int(first) + number for number, token in enumerate(tokens)}
    ordered = sorted(ranks, key=ranks.__getitem__)
    if [ranks[token] for token in ordered] != list(range(len(ordered))):
        raise SystemExit(f"{path.name}: the ranks have gaps")
    return ordered


def main(folder: Path) -> None:
    for name in NAMES:
        tokens = read(folder / "package" / "encoders" / f"{name}.json")
        data = lzma.compress(
            b"".join(bytes([len(token)]) + token for token in tokens), preset=9 | lzma.PRESET_EXTREME
        )
        target = Path(__file__).parents[1] / "lllm" / "vocabularies" / f"{name}.xz"
        target.write_bytes(data)
        print(f"{target.name}: {len(tokens)} tokens, {len(data)} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
