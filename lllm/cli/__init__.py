"""The command line. `lllm --version` answers from here: nothing that takes time to import stands above it."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code: 0 done, 1 the run failed, 2 usage or configuration, 3 a replay diverged
    or a log is not as it was written, 4 an uncertain effect needs a decision, 130 interrupted, 143 terminated."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if given in (["--version"], ["-V"]) and sys.stdout is not None:
            from lllm._version import __version__

            print(f"lllm {__version__}", flush=True)
            return 0
        from lllm.cli.app import run

        return run(given)
    except BrokenPipeError:
        from lllm.cli.app import seen_enough

        return seen_enough()
    except KeyboardInterrupt:  # while modules were being imported; from there on `run` has its own answer
        return 130
