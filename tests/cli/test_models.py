"""`lllm models`: what is on this machine, what it is, how fast it is, and where more comes from."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Terminal
from tests.servers.hub import COMMIT, Hub
from training.embedded.forms import Forms


@pytest.fixture
def project(tmp_path: Path, forms: Forms, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a model that has a name, one that has none, and a damaged one; and a hub's cache."""
    (tmp_path / "models").mkdir()
    shutil.copy(forms.gguf_f16, tmp_path / "models" / "small.gguf")
    shutil.copytree(forms.folder, tmp_path / "models" / "torch")
    (tmp_path / "models" / "broken.gguf").write_bytes(b"GGUF and nothing more")
    (tmp_path / "lllm.toml").write_text(
        '[models.tiny]\npath = "models/small.gguf"\noptions = { context = 256 }\n'
    )
    cached = tmp_path / "hub" / "models--owner--name" / "snapshots" / COMMIT
    cached.mkdir(parents=True)
    shutil.copy(forms.gguf_q8, cached / "name-q8_0.gguf")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_here(lllm: Terminal, project: Path) -> None:
    rows = {row["name"]: row for row in lllm("models", "--json").json}
    assert {name: (row["source"], row["backend"], row["quantisation"]) for name, row in rows.items()} == {
        "embedded": ("embedded", "llama_cpp", "Q8_0"),
        "tiny": ("configured", "llama_cpp", "F16"),
        "models/broken.gguf": ("file", None, None),
        "models/torch": ("file", "transformers", "float32"),
        "owner/name:name-q8_0.gguf": ("hub", "llama_cpp", "Q8_0"),
    }
    assert {row["parameters"] for row in rows.values()} == {3475712, None}
    assert "damaged" in rows["models/broken.gguf"]["problem"]
    told = lllm("models")
    assert told.code == 0
    assert len(told.out.splitlines()) == 6
    assert "3.5 million" in told.out


def test_a_name_whose_file_is_missing_stays_in_the_list(lllm: Terminal, project: Path) -> None:
    (project / "models" / "small.gguf").unlink()
    (row,) = [row for row in lllm("models", "--json").json if row["name"] == "tiny"]
    assert "no such file" in row["problem"]
    assert lllm("models", "show", "tiny").code == 2


@pytest.mark.parametrize("name", ["tiny", "models/small.gguf", "llama_cpp/models/small.gguf"])
def test_what_a_gguf_file_is(lllm: Terminal, project: Path, name: str) -> None:
    told = lllm("models", "show", name, "--json", "--context", "100").json
    size = (project / "models" / "small.gguf").stat().st_size
    expected = {
        "kind": "gguf",
        "backend": "llama_cpp",
        "architecture": "llama",
        "quantisation": "F16",
        "parameters": 3475712,
        "context": 1024,
        "layers": 4,
        "template": True,
        "licence": "MIT",
        "size": size,
        # keys and values of 4 layers, 256 numbers each, in half precision
        "memory": size + 100 * 2 * 4 * 256 * 2,
    }
    assert {key: told[key] for key in expected} == expected


def test_what_a_folder_is(lllm: Terminal, project: Path) -> None:
    for name in ("models/torch", "models/torch/model.safetensors"):
        told = lllm("models", "show", name, "--json").json
        assert (told["kind"], told["architecture"], told["quantisation"]) == (
            "transformers",
            "llama",
            "float32",
        )
        assert (told["parameters"], told["context"], told["template"], told["licence"]) == (
            3475712,
            1024,
            True,
            None,
        )
        assert told["memory"] == told["size"] + 1024 * 2 * 4 * 256 * 4
    (project / "models/torch/README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert "apache-2.0" in lllm("models", "show", "models/torch").out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tinny", "no model named 'tinny'. Did you mean 'tiny'?"),
        ("models/broken.gguf", "models/broken.gguf is damaged"),
        ("models", "models holds no config.json. Name the file: models/broken.gguf"),
        ("lllm.toml", "lllm.toml is no GGUF file"),
    ],
)
def test_what_cannot_be_shown(lllm: Terminal, project: Path, name: str, words: str) -> None:
    result = lllm("models", "show", name)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert len(result.err.splitlines()) == 1


def test_a_missing_package_is_named(lllm: Terminal, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    result = lllm("models", "show", "tiny")
    assert result.code == 2
    assert (
        "needs the package 'gguf', which is not installed. The extra lllm[local] brings it. Type: pip"
        in result.err
    )
    assert lllm("models", "show", "models/torch").code == 0
    assert lllm("models").code == 0


def test_how_fast_it_is(lllm: Terminal, project: Path) -> None:
    words = ("models", "bench", "embedded", "--batch", "1,3", "--tokens", "8", "--rounds", "1")
    told = lllm(*words, "--json", "--plot", "plot.svg").json
    assert [row["batch"] for row in told["batches"]] == [1, 3]
    for row in told["batches"]:
        assert 1 <= row["tokens"] <= 8 * row["batch"]
        assert 0 < row["first"] <= row["seconds"]
        assert row["per_second"] == pytest.approx(row["tokens"] / row["seconds"], rel=0.05)
    drawn = ElementTree.parse("plot.svg").getroot()
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(drawn.findall("{http://www.w3.org/2000/svg}rect")) == 3
    shown = lllm(*words, "--plot", "plot.html")
    assert "█" in shown.out
    assert Path("plot.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("words", [("--batch", "1,x"), ("--batch", "0"), ("--plot", "plot.png")])
def test_what_cannot_be_measured(lllm: Terminal, words: tuple[str, ...]) -> None:
    result = lllm("models", "bench", "embedded", *words)
    assert (result.code, result.out) == (2, "")
    assert words[0] in result.err


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_nothing_is_downloaded(lllm: Terminal, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE")
    monkeypatch.setenv(name, "1")
    result = lllm("models", "pull", "owner/name")
    assert (result.code, result.err) == (
        2,
        f"error: nothing is downloaded: {name} is set. Type: unset {name}\n",
    )


def test_a_hub_that_is_not_there(lllm: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        result = lllm("models", "pull", "owner/name")
    assert result.code == 1
    assert "127.0.0.1 cannot be reached (Connection refused): nothing was downloaded." in result.err
    assert lllm("models", "pull", "no-repository").code == 2


def pull(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's client reads its settings when it is imported."""
    hidden = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {
        "HF_ENDPOINT": url
    }
    return subprocess.run(
        [sys.executable, "-m", "lllm", "models", "pull", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
    )


def test_a_model_is_downloaded_and_found(lllm: Terminal, tmp_path: Path, forms: Forms) -> None:
    one, config = forms.gguf_q8.read_bytes(), (forms.folder / "config.json").read_bytes()
    several = {"a-q4.gguf": one, "a-q8.gguf": one, "notes.md": b"x"}
    repositories = {
        "owner/one": {"one.gguf": one},
        "owner/two": several,
        "owner/torch": {"config.json": config},
    }
    with Hub(repositories) as url:
        told = pull(url, "owner/one", "--json")
        assert told.returncode == 0, told.stderr
        got = json.loads(told.stdout)
        assert Path(got["path"]).read_bytes() == one
        assert (got["size"], got["model"]) == (len(one), f"llama_cpp/{got['path']}")
        which = pull(url, "owner/two")
        assert which.returncode == 2
        assert "owner/two has 2 GGUF files. Name one: --file a-q4.gguf, a-q8.gguf" in which.stderr
        assert pull(url, "owner/two", "--file", "a-q4.gguf").returncode == 0
        assert pull(url, "owner/torch").returncode == 0
        for words in (("owner/none",), ("owner/two", "--file", "b.gguf")):
            nothing = pull(url, *words)
            assert nothing.returncode == 2, nothing.stderr
            assert nothing.stderr.count("\n") == 1
    names = [row["name"] for row in lllm("models", "--json").json]
    assert names == ["embedded", "owner/one:one.gguf", "owner/two:a-q4.gguf"]
    assert lllm("models", "show", "owner/one").code == 0


def test_a_folder_becomes_a_gguf_file(lllm: Terminal, project: Path) -> None:
    told = lllm("models", "convert", "models/torch", "models/made.gguf", "--kind", "f16", "--json").json
    assert told == {
        "path": "models/made.gguf",
        "kind": "F16",
        "size": (project / "models" / "made.gguf").stat().st_size,
        "model": "llama_cpp/models/made.gguf",
    }
    shown = lllm("models", "show", "models/made.gguf", "--json").json
    assert (shown["quantisation"], shown["parameters"], shown["template"]) == ("F16", 3475712, True)
    assert "Use it: model_name: llama_cpp/small.gguf" in lllm("models", "convert", "tiny", "small.gguf").out
    refused = lllm("models", "convert", "models/torch", "made.bin")
    assert refused.code == 2
    assert "Type: made.bin.gguf" in refused.err
    assert "it is BF16, F16, F32, Q8_0" in lllm("models", "convert", "tiny", "x.gguf", "--kind", "q4").err
    assert not (project / "x.gguf").exists()
