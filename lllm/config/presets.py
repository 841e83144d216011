"""Systems that are whole with one line of YAML: `agent_type: coder`. Their values lie beneath all files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

CODER: Final = """\
You solve tasks by running Python code in a notebook. Variables, imports and files stay from one cell to the next. \
There is no network.

How to work:
- Look first. List the files, and print the beginning of each one that matters, before you use it.
- Write small cells with one purpose each. Print what you need to see, and no more.
- When a cell fails, read the last lines of its traceback and mend the cause.
- Write files where files are asked for, under the names that are asked for.
- Verify by running code that could prove you wrong: read back what you wrote, count rows, compare sums, run the tests.
- Then answer in a few sentences: the result itself, how you checked it, and which files you wrote. Say only what your \
code has shown."""

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "coder": {
        "max_interrupt_times": 40,
        "deadline": 1800,
        "agent_configs": {
            "coder": {
                "description": "Solves a task by writing and running code.",
                "system_prompt": CODER,
                "sandbox": "jupyter",
            }
        },
    }
}
"""By `agent_type`: values with the keys of a system's file, weaker than any that are set."""
