"""Names with a leading underscore stay in the file that defines them; attributes stay in their package."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import lllm

ROOT = Path(lllm.__file__).parent
FILES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}
TUPLES = ("_asdict", "_field_defaults", "_fields", "_replace")
"""What a NamedTuple has for everybody, in spite of the underscore."""
FRIENDS = {
    "config/importing.py": {"_imported_by"},
    "replay/calls.py": {"_prepare", "_settings"},
    "rl/running.py": {"_settings"},
    "rl/selection/candidates.py": {"_prompt"},
    "rl/selection/search.py": {"_settings"},
    "rl/settings.py": {"_settings"},
    "steps/calls.py": {"_prepare", "_settings"},
    "steps/memories.py": {"_memory"},
    "systems/base.py": {"_prepare"},
    "systems/multi_call.py": {"_settings"},
}
"""Files that use private attributes of another package's objects, mostly what an agent hides from its users. The list only
shrinks."""
OF_LIBRARIES = {
    "backends/llama_cpp/rules.py": {"_rules"},
    "http/sessions.py": {"_closed"},
    "inputs.py": {"_context"},
    "replay/cancels.py": {"_tasks"},
}
"""Private attributes of other packages' objects that happen to have a name of ours."""


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in TUPLES


def imported(tree: ast.Module) -> Iterator[str]:
    """Private names that a file takes from other modules of lllm: imported, or as attributes of an imported module."""
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {one.asname or one.name: one.name for one in node.names if one.name.startswith("lllm")}
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("lllm")):
            for one in node.names:
                if private(one.name):
                    yield f"from {node.module} import {one.name}"
                path = ROOT.parent / f"{node.module}.{one.name}".replace(".", "/")
                if path.is_dir() or path.with_suffix(".py").exists():
                    modules[one.asname or one.name] = f"{node.module}.{one.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and ast.unparse(node.value) in modules:
            yield f"{modules[ast.unparse(node.value)]}.{node.attr}"


def defined(tree: ast.Module) -> Iterator[str]:
    """Names that a file defines: of functions, classes, variables and attributes of `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and own(node):
            yield node.attr


def touched(tree: ast.Module) -> Iterator[str]:
    """Private attributes of objects other than the file's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and not own(node):
            yield node.attr


def own(node: ast.Attribute) -> bool:
    owner = node.value
    if isinstance(owner, ast.Call):  # super()
        owner = owner.func
    return isinstance(owner, ast.Name) and owner.id in ("self", "cls", "super")


def package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def test_no_private_name_is_imported() -> None:
    assert {str(path): found for path, tree in FILES.items() if (found := sorted(imported(tree)))} == {}


def test_private_attributes_stay_in_their_package() -> None:
    own_names = {path: set(defined(tree)) for path, tree in FILES.items()}
    names: dict[str, set[str]] = defaultdict(set)
    for path, found_names in own_names.items():
        names[package(path)] |= found_names
    ours = set().union(*names.values())
    agents = own_names[ROOT / "llm" / "agent.py"]

    def is_foreign(name: str, path: Path) -> bool:
        if name not in ours or name in own_names[path] or package(path) == "llm":
            return False
        return name in agents or name not in names[package(path)]

    found = {
        path.relative_to(ROOT).as_posix(): foreign
        for path, tree in FILES.items()
        if (foreign := {one for one in touched(tree) if is_foreign(one, path)})
    }
    assert found == {**FRIENDS, **OF_LIBRARIES}


@pytest.mark.parametrize(
    "source",
    [
        "from lllm.steps.batches import _all",
        "from lllm.steps import batches\nbatches._all",
        "from lllm.steps import batches as b\nb._all()",
        "import lllm.steps.batches\nlllm.steps.batches._all",
        "from .batches import _all",
    ],
)
def test_private_imports_are_seen(source: str) -> None:
    assert list(imported(ast.parse(source)))


def test_public_and_foreign_names_are_no_private_imports() -> None:
    source = "from lllm.steps import batches\nfrom lllm.ports import Limits\nimport os\nbatches.batch, Limits._fields, os._exit"
    assert not list(imported(ast.parse(source)))
