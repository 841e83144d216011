"""Reads a PDF from standard input and prints the texts of its pages as JSON. Runs in a process of its own: a PDF can make its
reader take for ever. Imports pypdf and the standard library alone.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import suppress

PAGES = 2000
LONGEST = 20_000_000
"""Characters of all pages: a small file may unpack to any amount."""
MEMORY = 1 << 31


def main() -> None:
    """Ends with an error where the file is no PDF."""
    import resource
    from importlib import import_module

    with suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    reader = import_module("pypdf").PdfReader(io.BytesIO(sys.stdin.buffer.read()))
    found = []
    left = LONGEST
    for page in reader.pages[:PAGES]:
        text = page.extract_text()[:left]
        found.append(text.encode("utf-8", "replace").decode().replace("\0", ""))
        left -= len(text)
        if not left:
            break
    sys.stdout.buffer.writelines([json.dumps(found).encode()])


if __name__ == "__main__":
    main()
