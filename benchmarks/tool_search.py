"""How well and how fast tools are found: questions in users' words over GitHub's 1,223 operations.

    python -m benchmarks.tool_search [--quick]

`held_out` are questions that were never looked at when the search was made: what to expect of others. `tune` are of the same
author, and were. `validation` are not among the examples of the search, but its weights were chosen with them. `development`
are among the examples, so their number says nothing. `documentation` are over another API, of 54 operations.
"""

from __future__ import annotations

import argparse
import statistics
import time

from lllm.tools.search import Index
from tests.search.operations import documentation, questions, recall, tools


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the index is built once")
    options = parser.parse_args()
    functions = list(tools().values())
    builds = []
    for _ in range(1 if options.quick else 5):
        start = time.process_time()
        index = Index(functions)
        builds.append(time.process_time() - start)
    print(f"index of {len(functions)} tools: {statistics.median(builds) * 1000:.0f} ms of CPU")
    for which in ("held_out", "tune", "validation", "development"):
        asked = questions(which)
        spent = []
        for question, _ in asked:
            start = time.process_time()
            index.search(question, 5)
            spent.append((time.process_time() - start) * 1000)
        found = recall(index, asked)
        times = f"{statistics.median(spent):.1f} ms, at most {max(spent):.1f}"
        print(f"{which}: {found} of {len(asked)} within the first five; of CPU for each: {times}")

    among = documentation()
    found = recall(Index(list(among.values())), questions("documentation"), among=among)
    print(
        f"documentation: {found} of {len(questions('documentation'))} within the first five of {len(among)}"
    )


if __name__ == "__main__":
    main()
