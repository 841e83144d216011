"""VLLMModel: an LLM on a vLLM server, or on any other endpoint of its kind, with a client of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from lllm.config.kinds import HOTTEST, TEMPERATURE
from lllm.errors import ConfigError
from lllm.llm.base_model import BaseModel
from lllm.llm.model import ENDPOINT, LLM
from lllm.llm.settings import OF_LLM, meant_address

T = TypeVar("T")

VARIABLES: Final[Mapping[str, str]] = {
    "model_name": "MODEL_NAME",
    "api_url": "API_URL",
    "api_key": "API_KEY",
    "default_max_tokens": "MAX_TOKENS",
    "default_temperature": "TEMPERATURE",
}
"""Where a value comes from that no argument gives: the environment, then `.env` beside lllm.toml or here."""


class VLLMModel(BaseModel):
    """A model behind an OpenAI-compatible endpoint.

        async with VLLMModel("Qwen/Qwen3-30B-A3B", "http://localhost:8000/v1") as model:
            async for text in model.call_stream([{"role": "user", "content": "Hello"}]):
                print(text, end="")

    It is an `LLM` too: `model("text")`, `await model.acall(...)`, batches, `format=`, `tools=`.

    Args:
        model_name: as the endpoint calls it; else `MODEL_NAME`.
        api_url: root of the API; else `API_URL`. The path is kept, `/v1` is added only to a bare host.
        api_key: else `API_KEY`. An endpoint on this machine needs none.
        default_max_tokens: of a call that does not say; else `MAX_TOKENS`, else the endpoint decides.
        default_temperature: of a call that does not say; else `TEMPERATURE`, else the endpoint decides.
        system, workers: as of `LLM`.
        options: of the backend: headers, thinking, ...; `concurrency`, `requests_per_minute` and `tokens_per_minute` may
            be keywords too.
        settings: everything else that an `LLM` takes: top_p, timeouts, limits, ...

    Every value: argument, then environment, then `.env`. An empty variable counts as not set, and hides the
    line of `.env`.

    Raises:
        ConfigError: a value is missing or wrong; the message names the field and where the value is from.
    """

    _fixed = OF_LLM

    def __init__(
        self,
        model_name: str | None = None,
        api_url: str | None = None,
        api_key: str | None = None,
        default_max_tokens: int | None = None,
        default_temperature: float | None = None,
        *,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        workers: int = 16,
        **settings: Any,
    ) -> None:
        from lllm.registry import registry

        for given_as in settings:
            if given_as in ("base_url", "model", "name") or meant_address(given_as) is not None:
                raise ConfigError(
                    f"unknown keyword '{given_as}'",
                    hint="The model is model_name=, the endpoint api_url=, and its key api_key=.",
                )
        name = _value("model_name", model_name, _text, required=True)
        url = _value("api_url", api_url, _text, required=True)
        longest = _value("default_max_tokens", default_max_tokens, _count)
        if longest is not None:
            settings.setdefault("max_tokens", longest)
        warmth = _value("default_temperature", default_temperature, _temperature)
        if warmth is not None:
            settings.setdefault("temperature", warmth)
        given = {key: settings.pop(key) for key in ENDPOINT if key in settings}
        key = _value("api_key", api_key, _text)
        # a backend of its own: what close_client closes is nobody else's
        try:
            self._backend: Any = registry.get("backend", "openai")(url, key, **{**(options or {}), **given})
        except TypeError as error:
            raise ConfigError(
                f"VLLMModel: {error}", hint="The endpoint is api_url=, its key api_key=."
            ) from None
        self._backend.name, self._backend.model = f"openai/{name}", name
        self._used = False
        LLM.__init__(self, self._backend, system=system, workers=workers, **settings)

    @property
    def api_url(self) -> str:
        """The API root that requests go to."""
        return str(self._backend.base_url)

    @property
    def model_name(self) -> str:  # type: ignore[override]
        """The model, as the endpoint calls it."""
        return str(self._backend.model)

    async def acall(self, input: Any, **overrides: Any) -> Any:
        """As `LLM.acall`."""
        self._used = True
        return await super().acall(input, **overrides)

    def stream(self, input: Any, **overrides: Any) -> Any:
        """As `LLM.stream`."""
        self._used = True
        return super().stream(input, **overrides)

    def astream(self, input: Any, **overrides: Any) -> Any:
        """As `LLM.astream`."""
        self._used = True
        return super().astream(input, **overrides)

    call_stream = LLM.call_stream

    async def close_client(self) -> None:
        """Closes the connections. A second time does nothing; a later call opens new ones."""
        await self.aclose()

    async def aclose(self) -> None:
        """As `close_client`."""
        self._used = False
        await super().aclose()

    def __del__(self) -> None:
        if getattr(self, "_used", False):
            warnings.warn(
                f"unclosed {self!r}: await close_client(), or use `async with`",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        return f"VLLMModel({self.model_name!r}, {self.api_url!r})"


def _value(field: str, given: T | None, read: Callable[[Any], T], *, required: bool = False) -> T | None:
    """An argument, or its variable, checked."""
    from lllm.config import variable

    name = VARIABLES[field]
    raw: Any = variable(name) if given is None else given
    if raw is None:
        if required:
            raise ConfigError(
                f"{field} is missing", hint=f"Give {field}=..., or set {name} in the environment or in .env."
            )
        return None
    try:
        return read(raw)
    except ValueError as error:
        source = f" (from {name})" if given is None else ""
        shown = type(raw).__name__ if field == "api_key" else repr(raw)
        raise ConfigError(f"{field} is {shown}{source}; it is {error}") from None


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("text")
    return raw


def _count(raw: Any) -> int:
    try:
        number = int(raw) if isinstance(raw, str) else raw
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError("a whole number of 1 or more")
    return number


def _temperature(raw: Any) -> float:
    try:
        number = float(raw) if isinstance(raw, str) else raw
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= HOTTEST:
        raise ValueError(TEMPERATURE.words)
    return float(number)
