"""Backends of the providers in `lllm.providers`: the `openai` backend with their address and key variables."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from lllm.backends.openai.client import OpenAIBackend
from lllm.ports import Capabilities
from lllm.providers import PROVIDERS, Provider


class CompatibleBackend(OpenAIBackend):
    """A known OpenAI-compatible endpoint. Arguments as for OpenAIBackend.

    Only the provider's own variables are read: OpenAI's key is never sent to another provider.
    """

    provider: ClassVar[Provider]

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        capabilities: Capabilities | None = None,
        **options: Any,
    ) -> None:
        found = [(os.environ[name], name) for name in self.provider.urls if os.environ.get(name)]
        if base_url is None and found:
            base_url = _address(found[0][0])
        else:
            found = []
        super().__init__(base_url or self.provider.url, api_key, capabilities=capabilities, **options)
        if found:
            self._url_from = found[0][1]
        if self.provider.local and capabilities is None:
            self.capabilities = self.capabilities._replace(local=True)


def _backend(name: str) -> type[CompatibleBackend]:
    provider = PROVIDERS[name]
    return type(
        f"{name.title().replace('_', '')}Backend",
        (CompatibleBackend,),
        {
            "__doc__": f"{provider.about}.",
            "__module__": __name__,
            "provider": provider,
            "key_variables": provider.keys,
            "needs_key": not provider.local,
        },
    )


def __getattr__(name: str) -> type[CompatibleBackend]:
    """`providers.ollama` and so on: one class per line of the table."""
    if name not in PROVIDERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()[name] = _backend(name)
    return made


def _address(value: str) -> str:
    """Converts a host as programs write it (`OLLAMA_HOST=0.0.0.0:11434`) to a usable address."""
    text = value if "://" in value else f"http://{value}"
    return text.replace("//0.0.0.0", "//127.0.0.1", 1).replace("//[::]", "//[::1]", 1)
