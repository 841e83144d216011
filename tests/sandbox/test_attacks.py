"""Attacks on the sandbox, for real: each row of the table, in each tier, as root and as another user; then the next cell runs.

They run in a world of their own (attacks/world.py). Their controls, the same code without a sandbox in such a world, show that
it is the sandbox that stops them.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tests.sandbox.attacks import world
from tests.sandbox.attacks.row import VARIANTS, WORDS
from tests.sandbox.attacks.table import ROWS

HERE = [one for one in VARIANTS if os.geteuid() == 0 or one.endswith("/user")]
CONTROLLED = [name for name, row in ROWS.items() if not row.control]
needs_world = pytest.mark.skipif(bool(world.missing()), reason=world.missing())


Results = Callable[[str], dict[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What came of the attacks of a variant. They are run once, whichever worker of pytest asks first; others wait."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    @cache
    def run(variant: str) -> dict[str, dict[str, Any]]:
        with (folder / f"attacks-{variant.replace('/', '-')}.json").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if not (text := file.read()):
                text = json.dumps(
                    world.run(variant, CONTROLLED if variant.startswith("control") else list(ROWS))
                )
                file.write(text)
        found: dict[str, dict[str, Any]] = json.loads(text)
        return found

    return run


@needs_world
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("variant", HERE)
def test_attack(variant: str, name: str, results: Results) -> None:
    row, found = ROWS[name], results(variant)[name]
    assert found["found"] == row.expect(variant), found
    assert found["next"], found
    assert found["alive"] or not row.keeps, found


@needs_world
@pytest.mark.parametrize("name", CONTROLLED)
def test_control(name: str, results: Results) -> None:
    found = results("control/user")[name]
    assert found["found"] == "open", found


def test_harness_refuses_outside_of_its_world() -> None:
    program = [sys.executable, "-m", "tests.sandbox.attacks.harness", "/nowhere", "control/user", "ssh"]
    for variables in ({}, {world.MARK: os.readlink("/proc/self/ns/mnt")}):
        done = subprocess.run(
            program,
            env={**os.environ, **variables},
            cwd=world.REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "in a world of their own only" in done.stderr


def test_table_expects_known_outcomes() -> None:
    assert {row.expect(variant) for row in ROWS.values() for variant in VARIANTS} <= set(WORDS)
    named = {name for row in ROWS.values() for name in row.expected}
    assert named <= {*VARIANTS, "namespace", "process"}
