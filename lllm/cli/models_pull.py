"""`lllm models pull`: a model of the Hugging Face hub, through the hub's own client."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from lllm.cli import output
from lllm.cli.models import bytes_of, hub_cache
from lllm.cli.options import Json
from lllm.errors import ConfigError, ConnectionFailed, DependencyError, LLMInitializationError, listing

HUB = "https://huggingface.co"
WAIT = 5.0
"""Seconds that the hub has to answer."""
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "README.md")
"""What transformers needs of a repository."""


def pull(
    repo: Annotated[str, typer.Argument(metavar="REPO", help="owner/name on the hub.")],
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="One file of it, e.g. model-q8_0.gguf.")
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="A branch, tag or commit.")] = None,
    json: Json = False,
) -> int:
    """Download a model from the hub into its cache. The one command of lllm that downloads anything."""
    for name in OFFLINE:
        if output.truthy(os.environ.get(name)):
            raise ConfigError(f"nothing is downloaded: {name} is set", hint=f"Type: unset {name}")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise ConfigError(f"'{repo}' is no repository", hint="Type: lllm models pull OWNER/NAME")
    hub = _client()
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    _reach(endpoint)
    try:
        path = _download(hub, endpoint, repo, file, revision, quiet=json)
    except ConfigError:
        raise
    except Exception as error:  # the client has a tree of its own, on top of that of its HTTP library
        raise _fault(error, repo, endpoint) from error
    size = (
        path.stat().st_size
        if path.is_file()
        else sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    )
    model = f"{'llama_cpp' if path.suffix == '.gguf' else 'transformers'}/{path}"
    if json:
        output.data({"repo": repo, "file": file, "path": str(path), "size": size, "model": model})
    else:
        output.text(f"{bytes_of(size)} in {path}\nUse it: model_name: {model}")
    return 0


def _client() -> Any:
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(int(WAIT)))  # read when the client is imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise DependencyError("huggingface_hub", "transformers", "lllm models pull") from error
    return huggingface_hub


def _reach(endpoint: str) -> None:
    """Asks once whether the hub is there: its client tries for minutes. Behind a proxy only the client can tell."""
    if any(os.environ.get(name) for name in PROXIES):
        return
    split = urlsplit(endpoint)
    host, port = split.hostname or "", split.port or (80 if split.scheme == "http" else 443)
    failed: list[str] = ["no answer"]

    def look() -> None:
        try:
            socket.create_connection((host, port), timeout=WAIT).close()
            failed.clear()
        except OSError as error:
            failed[:] = [error.strerror or str(error)]

    # a name that cannot be resolved takes as long as the system's resolver likes
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(WAIT)
    if failed:
        raise ConnectionFailed(
            f"{host} cannot be reached ({failed[0]}): nothing was downloaded",
            hint="Without a network, copy the file here and name its path.",
        )


def _download(
    hub: Any, endpoint: str, repo: str, file: str | None, revision: str | None, *, quiet: bool
) -> Path:
    if quiet:
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    told: dict[str, Any] = {"revision": revision, "endpoint": endpoint, "cache_dir": hub_cache()}
    if file is None:
        info = hub.HfApi(endpoint=endpoint).model_info(repo, revision=revision, timeout=WAIT)
        names = [sibling.rfilename for sibling in info.siblings or ()]
        weights = [name for name in names if name.endswith(".gguf")]
        if not weights:
            return Path(hub.snapshot_download(repo, allow_patterns=list(FILES), **told))
        if len(weights) > 1:
            raise ConfigError(
                f"{repo} has {len(weights)} GGUF files", hint=f"Name one: --file {listing(weights)}"
            )
        file = weights[0]
    return Path(hub.hf_hub_download(repo, file, **told))


def _fault(error: Exception, repo: str, endpoint: str) -> Exception:
    kind = type(error).__name__
    words = str(error).strip().partition("\n")[0]
    if kind in (
        "RepositoryNotFoundError",
        "RevisionNotFoundError",
        "EntryNotFoundError",
        "RemoteEntryNotFoundError",
    ):
        return ConfigError(f"{repo}: {words}", hint=f"Look at {endpoint}/{repo}.")
    if kind == "GatedRepoError":
        return ConfigError(
            f"{repo} wants you to agree to its terms", hint=f"Look at {endpoint}/{repo}, and set HF_TOKEN."
        )
    return LLMInitializationError(f"{repo} could not be downloaded: {kind}: {words}", hint="Try again.")
