"""`lllm doctor` on the engines of local models."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lllm.backends.transformers import probe
from lllm.errors import DependencyError
from lllm.hints import install_hint, replace_hint
from tests.cli.conftest import Terminal


def engines(lllm: Terminal) -> dict[str, tuple[str, str, str | None]]:
    result = lllm("doctor", "--json")
    assert result.code == 0, "a slow engine is no problem"
    return {
        item["name"]: (item["state"], item["detail"], item["hint"])
        for item in result.json["checks"]
        if item["name"].startswith("engine ")
    }


def test_doctor_tells_that_the_engines_are_fast(lllm: Terminal, demo: Path) -> None:
    found = engines(lllm)
    assert set(found) == {"engine llama_cpp", "engine transformers"}
    for state, detail, hint in found.values():
        assert (state, hint) == ("ok", None)
        assert "requests are decoded together" in detail


def test_doctor_tells_of_a_fast_path_that_is_lost(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "batching", lambda: "it takes no cache")
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    found = engines(lllm)
    state, detail, hint = found["engine transformers"]
    assert (state, hint) == ("slow", replace_hint("transformers"))
    assert detail.endswith("one request after another, for a plain model: it takes no cache.")
    state, detail, hint = found["engine llama_cpp"]
    assert (state, hint) == ("slow", install_hint("local"))
    assert "one request after another; xllamacpp is not installed." in detail


def test_doctor_without_engines(lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking() -> str:
        raise DependencyError("torch", "transformers", "the transformers backend")

    monkeypatch.setattr(probe, "batching", lacking)
    for module in ("xllamacpp", "llama_cpp"):
        monkeypatch.setitem(sys.modules, module, None)
    found = engines(lllm)
    assert {name: state for name, (state, _, _) in found.items()} == {
        "engine llama_cpp": "not installed",
        "engine transformers": "not installed",
    }
    assert found["engine transformers"][1].endswith("no package 'torch'.")


def test_doctor_on_a_library_that_is_unusable(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import xllamacpp

    monkeypatch.delattr(xllamacpp, "Server")
    result = lllm("doctor", "--json")
    assert result.code == 2
    (item,) = [item for item in result.json["checks"] if item["name"] == "engine llama_cpp"]
    assert item["state"] == "problem"
    assert "lacks Server, which lllm uses." in item["detail"]
    assert item["hint"] == replace_hint("xllamacpp")
