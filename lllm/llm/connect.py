"""From a model's name to the backend that answers: `provider/model`, a backend's own name, or a name of `[models]`."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lllm.config.environ import remember
from lllm.config.kinds import in_words
from lllm.config.secret import secrets_in
from lllm.const import card
from lllm.errors import (
    ConfigError,
    LLMError,
    LLMInferenceError,
    UnknownNameError,
    UnsupportedError,
    listing,
    nearest,
    text_of,
)
from lllm.handles import needs_model, only_model
from lllm.llm import opened
from lllm.llm.checks import mapping_of
from lllm.llm.project import project
from lllm.plug_ins import PLUG_IN, attribute, backend_named, guarded, raised, secrets_of
from lllm.ports import Backend, Capabilities, Delta, Request
from lllm.providers import SPELLINGS, family

if TYPE_CHECKING:
    from lllm.config.values import CacheConfig, LocalModel
    from lllm.registry import Registry

offline: contextvars.ContextVar[Mapping[str, Sequence[str]] | None] = contextvars.ContextVar(
    "lllm_offline", default=None
)
"""Set during a replay, to the recorded models of each agent: no backend is opened then, because none is asked."""
unasked: contextvars.ContextVar[str] = contextvars.ContextVar(
    "lllm_unasked", default="a replay asked a model: this is a fault of lllm, please report it"
)
"""What is said when one is asked nevertheless."""

_cache: contextvars.ContextVar[CacheConfig | None] = contextvars.ContextVar("lllm_cache", default=None)
_models: contextvars.ContextVar[Mapping[str, LocalModel] | None] = contextvars.ContextVar(
    "lllm_models", default=None
)


@contextmanager
def caching(config: CacheConfig) -> Iterator[None]:
    """Models that are opened within answer from the cache that `config` describes, instead of the project's."""
    token = _cache.set(config)
    try:
        yield
    finally:
        _cache.reset(token)


@contextmanager
def naming(models: Mapping[str, LocalModel]) -> Iterator[None]:
    """While open, bare model names resolve to these models instead of the project's."""
    token = _models.set(models)
    try:
        yield
    finally:
        _models.reset(token)


def provider_of(model: str, models: Mapping[str, LocalModel]) -> str:
    """Backend of a model name: the part before the slash, or the loader of a bare name of `[models]`."""
    from lllm.registry import registry

    provider, slash, _ = _with_slash(model).partition("/")
    if not slash and provider in models and not registry.has("backend", provider):
        return models[provider].backend
    return provider


class Offline:
    """The backend of a replay. It answers nothing: answers come from the record."""

    capabilities = Capabilities(logprobs=True, token_ids=True, vision=True, seed=True)

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self.secrets = tuple(secrets)  # of the backend that it replaces: a divergence may show them

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        nothing: list[Delta] = []
        for delta in nothing:
            yield delta
        raise LLMInferenceError(unasked.get())

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        raise UnsupportedError(
            "a replay computes no embeddings, and these were asked for outside of its session",
            hint="Within a session they are recorded: with lllm.record(): ...",
        )

    async def aclose(self) -> None:
        """Nothing is open."""


_lock = threading.Lock()
_open: opened.Table = {}


def connect(model: str | Backend, options: Mapping[str, Any] | None = None) -> tuple[Backend, str, str]:
    """Returns the backend, the model's full name, and the name to send to the backend.

    An LLM (a VLLMModel) resolves to its backend. `options` (base_url, api_key, ...) go to the backend's constructor.
    Backends are shared: the same provider with the same options is one object with one connection pool as long as anything
    uses it; of unused ones only the latest stay open (`lllm.llm.opened.MOST`). A bare name that is not a backend is one of
    lllm.toml's `[models]`: its options apply unless the call has others. If the configuration enables it, a named model
    answers from the cache; a backend object never does, because its model is not known.

    Raises:
        UnknownNameError: no such backend.
        DependencyError: its package is missing.
        ConfigError: the provider's name has no model after it, or the backend refuses an option or cannot be created.
    """
    options = mapping_of("options", options)
    if offline.get() is None:
        return open_backend(model, options)
    secrets = (() if isinstance(model, str) else secrets_of(model)) or tuple(secrets_in(dict(options)))
    if not isinstance(model, str):
        return Offline(secrets), *_made(model, options)[1:]
    model = _with_slash(model)
    return Offline(secrets), model, model.partition("/")[2] or model


def open_backend(model: str | Backend, options: Mapping[str, Any] | None = None) -> tuple[Backend, str, str]:
    """Like `connect`, but also during a replay: for what a backend can compute without a request."""
    if not isinstance(model, str):
        return _made(model, options or {})
    model = _with_slash(model)
    from lllm.registry import registry

    provider, slash, rest = model.partition("/")
    if not slash and not registry.has("backend", provider):
        declared = _models.get()
        declared = project().models if declared is None else declared
        if model not in declared:
            raise ConfigError(f"'{model}' names no provider", hint=_which(model, declared))
        local = declared[model]
        provider, rest, options = local.backend, str(local.path), {**local.options, **(options or {})}
    given = dict(options or {})
    key = (provider, _as_key(provider, given))
    with _lock:
        backend = opened.find(_open, key)
        if backend is None:
            _check_provider(provider, rest, registry)
            backend = _make(provider, registry.get("backend", provider), given)
            secrets = secrets_of(backend, provider)
            opened.keep(_open, key, backend)
            for secret in secrets:
                remember("backend", secret)
    if not rest and (slash or needs_model(backend, provider)):
        raise ConfigError(f"'{model}' names no model", hint=f"Write {provider}/model.")
    only = only_model(backend, provider)
    if rest and only is not None and rest != only:
        raise ConfigError(f"'{model}': the backend '{provider}' has one model", hint=f"Write {provider}.")
    found = f"{provider}/{rest}" if rest else provider
    return _cached(backend, found, options), model, rest or provider


def made_by(model: Any) -> Any:
    """The agent inside an LLM or a VLLMModel, which holds its settings; None for anything else."""
    agent = getattr(model, "_agent", None)
    return agent if hasattr(agent, "_settings") else None


def _made(model: Any, options: Mapping[str, Any]) -> tuple[Backend, str, str]:
    """The result of `connect` for an existing model: a backend, or that of an LLM."""
    if options:
        raise ConfigError(
            f"options are arguments of a model's constructor, and this {type(model).__name__} already exists",
            hint="Pass them where it is created.",
        )
    if (agent := made_by(model)) is not None:
        settings = agent._settings
        return settings.backend, settings.model, settings.model_name
    if isinstance(model, type):
        raise ConfigError(
            f"{model.__name__} is a class, not a model", hint=f"Create an instance: {model.__name__}(...)."
        )
    who = backend_named(model)
    if hasattr(model, "_settings") or not callable(attribute(who, model, "stream")):
        raise ConfigError(
            f"{type(model).__name__} is not a model",
            hint="Pass 'provider/model', an LLM, or an object with stream(request).",
        )
    with guarded(who):
        name = str(getattr(model, "name", "") or type(model).__name__)
        return model, name, str(getattr(model, "model", "") or name)


def _as_key(provider: str, options: Mapping[str, Any]) -> str:
    """Options as text: equal where they are the same."""
    for name in options:
        if not isinstance(name, str):
            raise ConfigError(f"the name of an option must be text, got {in_words(name)}")
    with guarded(f"backend '{provider}': an option"):
        return repr(sorted(options.items(), key=lambda option: option[0]))


def _make(provider: str, factory: Any, options: Mapping[str, Any]) -> Backend:
    """A backend of a registered class or function, or the registered object itself. ConfigError where it cannot be made."""
    made = factory
    try:
        if isinstance(factory, type) or (callable(factory) and made_by(factory) is None):
            made = factory(**options)
    except LLMError:
        raise
    except TypeError as error:  # mostly an option that it does not take
        raise ConfigError(f"backend '{provider}': {text_of(error)}") from error
    except PLUG_IN as error:
        raise raised(f"backend '{provider}'", error) from error
    if (agent := made_by(made)) is not None:  # an LLM (a BaseModel) stands for the backend that it has
        made = agent._settings.backend
    if not callable(attribute(f"backend '{provider}'", made, "stream")):
        raise ConfigError(
            f"backend '{provider}' is {type(made).__name__}, which has no stream(request)",
            hint="See lllm.ports.Backend.",
        )
    found: Backend = made
    return found


def _with_slash(model: str) -> str:
    """Rewrites `provider:model`, the notation of other programs, with a slash. Model names contain colons too
    (`ollama/llama3:8b`), so only a backend's name before the first colon counts."""
    provider, colon, rest = model.partition(":")
    if not colon or "/" in provider:
        return model
    from lllm.registry import registry

    return f"{provider}/{rest}" if registry.has("backend", provider) else model


def _check_provider(provider: str, rest: str, registry: Registry) -> None:
    """Raises UnknownNameError for an unknown provider, with lllm's name for it, or with the providers to use if it is a
    model's owner."""
    if registry.has("backend", provider):
        return
    error = UnknownNameError("backend", provider, registry.names("backend"))
    here = provider.lower() if registry.has("backend", provider.lower()) else SPELLINGS.get(provider.lower())
    if here is not None:
        error.hint = f"Here it is called '{here}': {here}/{rest}"
    elif rest:
        close = nearest(provider, registry.names("backend"))
        error.hint = (
            (f"Did you mean '{close}'? " if close else "")
            + f"If '{provider}/{rest}' is the full name of a model, put a provider before it: openrouter/{provider}/{rest}, "
            f"vllm/{provider}/{rest}, or openai/{provider}/{rest} with a base_url. All: lllm list backends."
        )
    raise error


def _cached(backend: Backend, model: str, options: Mapping[str, Any] | None) -> Backend:
    """The backend behind the cache, where one is wanted."""
    config = _cache.get() or project().cache
    if not config.enabled:
        return backend
    from lllm.backends.cache import CachedBackend

    return CachedBackend(backend, model, config.dir, config.mode, options or {})


def _which(model: str, declared: Mapping[str, Any]) -> str:
    """What somebody may have meant who wrote a bare name."""
    if close := nearest(model, declared):
        return f"Did you mean '{close}', of [models] in lllm.toml?"
    known = f" [models] in lllm.toml has {listing(declared)}." if declared else ""
    found = card(model)
    provider = found.provider if found is not None else family(model)
    if model.startswith(":") or not model.strip():
        return f"Write provider/model, e.g. openai/gpt-5-mini.{known} All providers: lllm list backends."
    if provider is not None:
        return f"Write {provider}/{model}.{known}"
    return f"Write provider/model, e.g. ollama/{model} or openai/{model}.{known} All providers: lllm list backends."


async def close_all() -> None:
    """Closes every backend that this process opened by name."""
    with _lock:
        backends = opened.take_all(_open)
    problem: Exception | None = None
    for backend in backends:
        try:
            await backend.aclose()
        except PLUG_IN as error:  # the others are closed all the same
            problem = problem or raised(f"{backend_named(backend)}: aclose", error, LLMError)
    if problem is not None:
        raise problem
