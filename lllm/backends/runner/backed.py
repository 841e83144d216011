"""A runner over a backend of the port: what the built-in runners are, and any registered backend can be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from lllm.backends.devices import resolve
from lllm.backends.runner.base import BaseLLMRunner
from lllm.backends.runner.config import BackendType, DeviceType, ModelConfig
from lllm.backends.runner.generation import Once, Pump
from lllm.errors import ConfigError, LLMError, LLMInferenceError, UnsupportedError
from lllm.handles import close_stream, embed_of, info_of, load_of
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.ports import Backend, Completed, Delta, Request, TextDelta
from lllm.sync import maybe_async, run

TAKES: Final[Mapping[str, Mapping[str, str]]] = {
    # backend: setting of a ModelConfig -> argument of the backend's constructor
    "llama_cpp": {
        "engine": "engine",
        "n_ctx": "context",
        "n_threads": "threads",
        "n_gpu_layers": "gpu_layers",
        "slots": "slots",
        "lora": "lora",
        "chat_template": "chat_template",
        "flash_attention": "flash_attention",
    },
    "transformers": {
        "n_threads": "threads",
        "batch": "batch",
        "lora": "lora",
        "chat_template": "chat_template",
        "dtype": "dtype",
        "compile": "compile",
        "quantization": "quantization",
    },
    "embedded": {"slots": "slots", "engine": "engine"},
    "scripted": {},
}
"""A backend that is not here takes `options` alone, and a device and load settings only through them."""


class BackendRunner(BaseLLMRunner):
    """A runner over a backend that is registered: `backend="name"` of its config.

    A prompt is one question of a user: the model's own chat template is applied to it. What the backend can do beyond text
    (tools, schemas, log-probabilities) it can do here. A reply that was asked for in a `response_format` is validated
    against it.
    """

    _backend: Backend | None = None

    def __init__(self, config: ModelConfig | Mapping[str, Any] | str, **settings: Any) -> None:
        super().__init__(config, **settings)
        self._name = self.backend or (self.config.backends or (_by_kind(self.config),))[0]
        self._check(self.config)

    def _check(self, config: ModelConfig) -> None:
        """Raises ConfigError for settings that this backend does not have, and for a missing path."""
        lacking = sorted(set(config.loading) - set(self._takes()))
        if lacking:
            raise ConfigError(
                f"the backend '{self.name}' has no {', '.join(lacking)}",
                hint=f"It can be loaded with: {', '.join(sorted(self._takes()))}.",
            )
        own = type(self)._where is not BackendRunner._where  # a subclass chooses its own device
        if self._name not in DEVICES and config.device != DeviceType.AUTO and not own:
            raise ConfigError(
                f"the backend '{self.name}' has no device setting, but device is {config.device}",
                hint="Remove device, or set it in options={...} under the backend's own name.",
            )
        if self._name in _NEED_PATH and config.model_path is None:
            raise ConfigError(
                f"the backend '{self.name}' needs a model_path", hint=f"Type: {_NEED_PATH[self._name]}"
            )

    def _settle(self, new: ModelConfig) -> ModelConfig:
        settled = super()._settle(new)
        self._check(settled)
        return settled

    @property
    def name(self) -> str:
        return self._name

    def _takes(self) -> tuple[str, ...]:
        return (*TAKES.get(self._name, {}), "options")

    def _asked_for(self) -> str:
        if self._name == "embedded":
            return "embedded"
        return str(self.config.model_path or self._name)

    def _where(self) -> tuple[str, str]:
        find = DEVICES.get(self._name)
        return super()._where() if find is None else find(self.config)

    def _options(self) -> dict[str, Any]:
        """The arguments of the backend's constructor."""
        names = TAKES.get(self._name, {})
        given = {names[name]: value for name, value in self.config.loading.items() if name in names}
        device = str(self._held["device"][0])
        if self._name == "transformers":
            given["device"] = device
            if "lora" in given:
                given["lora"] = _one_adapter(given["lora"])
        elif self._name == "llama_cpp" and "gpu_layers" not in given and not device.startswith("cpu"):
            given["gpu_layers"] = -1
        elif self._name == "embedded" and self.config.model_path is not None:
            given["path"] = self.config.model_path
        return {**given, **(self.config.options or {})}

    def _make(self) -> Backend:
        from lllm.registry import registry

        target = registry.get("backend", self._name)
        if not callable(target):
            return target  # type: ignore[no-any-return]
        try:
            return target(**self._options())  # type: ignore[no-any-return]
        except TypeError as error:
            raise ConfigError(f"the backend '{self.name}': {error}") from error

    def _initialize_model(self) -> None:
        """Makes the backend and has it load the model, where it can be told to."""
        backend = self._make()
        if (info := info_of(backend)) is not None:
            run(maybe_async(info, self._asked_for()))
        elif (load := load_of(backend)) is not None:
            run(maybe_async(load))
        self._backend = backend

    def _release_model(self, held: Mapping[str, Any]) -> None:
        if (backend := held.get("_backend")) is not None and callable(self._target()):
            run(backend.aclose())

    def _target(self) -> Any:
        from lllm.registry import registry

        return registry.get("backend", self._name)

    def _respond(self, request: Request) -> Iterator[Delta]:
        assert self._backend is not None
        backend = self._backend
        if request.tools and not backend.capabilities.tools:
            raise UnsupportedError(f"the backend '{self.name}' knows no tools")
        kind = Pump if request.stream else Once
        return kind(partial(_checked, backend.stream, request))

    def _run_streaming(self, prompt: str, max_tokens: int, temperature: float) -> Iterator[str]:
        asked = (Message("user", prompt),)
        sampling = {**self.config.sampling, "max_tokens": max_tokens, "temperature": temperature}
        with closing(
            self._follow(Request(self._asked_for(), asked, sampling=sampling, stream=True))
        ) as deltas:
            yield from (delta.text for delta in deltas if isinstance(delta, TextDelta))

    def describe_model(self) -> dict[str, Any]:
        info = info_of(self._backend)
        return {} if info is None else dict(run(maybe_async(info, self._asked_for())))

    def describe_file(self) -> dict[str, Any]:
        path = self._weights()
        try:
            return _facts(path, Path(path).expanduser().stat().st_mtime_ns) if path else {}
        except (LLMError, OSError):  # no such file, or none that can be read: loading says so
            return {}

    def embed(self, texts: list[str]) -> list[list[float]]:
        """One vector per text, where the backend has embeddings. Raises UnsupportedError where not."""
        self.load()
        embed = embed_of(self._backend)
        if embed is None:
            raise UnsupportedError(f"the backend '{self.name}' has no embeddings")
        return [list(vector) for vector in run(maybe_async(embed, self._asked_for(), texts))]

    def _weights(self) -> str | None:
        if self._name == "embedded" and self.config.model_path is None:
            from lllm.backends.embedded import WEIGHTS

            return str(WEIGHTS)
        return super()._weights()


async def _checked(
    stream: Callable[[Request], AsyncIterator[Delta]], request: Request
) -> AsyncIterator[Delta]:
    """The stream; a finished reply that breaks the format that was asked for is an error."""
    deltas = stream(request)
    try:
        async for delta in deltas:
            if isinstance(delta, Completed) and request.format is not None:
                _validate(delta.reply, request.format.get("whole", request.format["schema"]))
            yield delta
    finally:
        await close_stream(deltas)


def _validate(reply: Reply, schema: Mapping[str, Any]) -> None:
    if reply.finish_reason != "stop":
        return  # cut off, or asking for a tool: the finish reason says so
    import json

    import jsonschema_rs

    try:
        value = json.loads(reply.content)
    except (ValueError, RecursionError) as error:
        raise LLMInferenceError(f"the reply is not JSON: {error}") from error
    wrong = [
        error.message for error in jsonschema_rs.validator_for(dict(schema), offline=True).iter_errors(value)
    ]
    if wrong:
        raise LLMInferenceError(f"the reply does not fit its schema: {'; '.join(wrong[:5])}")


@lru_cache(maxsize=8)
def _facts(path: str, changed: int) -> dict[str, Any]:
    """What a model's file says; read once, as long as it was not changed."""
    from lllm.backends.gguf_file import read

    file = read(path)
    return {
        "architecture": file.architecture,
        "parameters": file.parameters,
        "weight_bytes": file.size,
        "context": file.context,
        "quantization": file.quantisation,
    }


def _one_adapter(pairs: tuple[tuple[str, float], ...]) -> str:
    if len(pairs) != 1 or pairs[0][1] != 1.0:
        raise ConfigError("transformers takes one LoRA adapter, unscaled", hint="Type: lora='folder'")
    return pairs[0][0]


def _by_kind(config: ModelConfig) -> str:
    from lllm.backends.runner.kinds import by_kind

    return by_kind(config.model_path)  # type: ignore[arg-type]


# --- devices ---------------------------------------------------------------------------------------------------------


def _on_torch(config: ModelConfig) -> tuple[str, str]:
    return resolve(str(config.device))


def _on_llama_cpp(config: ModelConfig) -> tuple[str, str]:
    if config.n_gpu_layers == 0 and config.device == "auto":
        return "cpu", "n_gpu_layers is 0"
    return resolve(str(config.device), offload)


def _on_cpu(config: ModelConfig) -> tuple[str, str]:
    if config.device in ("auto", "cpu"):
        return "cpu", "this backend computes on the CPU"
    raise ConfigError(
        f"device is '{config.device}'; this backend computes on the CPU", hint="Type: device='auto'"
    )


def offload() -> Mapping[str, int]:
    """The devices that llama.cpp was built for here."""
    import sys
    from importlib.util import find_spec

    there = 0
    if find_spec("llama_cpp") is not None:
        import llama_cpp

        there = int(llama_cpp.llama_supports_gpu_offload())
    metal = sys.platform == "darwin"
    return {"cuda": there * (not metal), "mps": there * metal, "cpu": 1}


DEVICES: Final[Mapping[str, Callable[[ModelConfig], tuple[str, str]]]] = {
    BackendType.TRANSFORMERS: _on_torch,
    BackendType.LLAMA_CPP: _on_llama_cpp,
    BackendType.EMBEDDED: _on_cpu,
    BackendType.SCRIPTED: _on_cpu,
}
_NEED_PATH: Final = {
    "llama_cpp": "model_path='model.gguf'",
    "transformers": "model_path='folder'",
}
