"""BaseLLMRunner: two methods make a backend, everything else is derived from them."""

from __future__ import annotations

import dataclasses
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Literal, overload

from lllm.backends.local.speech import Speech
from lllm.backends.runner import completion, faults, memory
from lllm.backends.runner.config import ModelConfig, overrides
from lllm.backends.runner.generation import Generation
from lllm.backends.runner.state import MOVES, State
from lllm.errors import ConfigError, LLMError, LLMInferenceError, UnsupportedError, listing
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.ports import Completed, Delta, Request, TextDelta, Timeouts

MAX_TOKENS: Final = 512
TEMPERATURE: Final = 0.7
"""What `_run_streaming` is given where nobody set a value."""

_BOOKS: Final = frozenset({"state", "_loading", "_running", "_books", "_last", "_held"})
"""Attributes that a load does not own: a failed swap leaves them as they are."""


class BaseLLMRunner(ABC):
    """A model behind blocking calls, loaded when it is first needed.

    A backend of your own is a subclass with two methods:

        class Echo(BaseLLMRunner):
            def _initialize_model(self) -> None:
                self.model = load(self.config.model_path)

            def _run_streaming(self, prompt: str, max_tokens: int, temperature: float) -> Iterator[str]:
                yield from self.model.pieces(prompt, max_tokens, temperature)

    It yields text as it comes, one piece per token where it can, and stops at `max_tokens`; a generator may `return` the
    reason why it ended ("stop" or "length"). What `_initialize_model` sets on `self` is the model: it is dropped when the
    runner is closed, and put back when a swap fails.

    Safe to use from several threads. A model is loaded once however many ask at the same time.

    Args:
        config: a ModelConfig, a mapping (`{"llm": {...}}` or flat), or the path of a model.
        settings: further settings, in place of those of `config`.

    Raises:
        ConfigError: all that is wrong with the settings, before anything is imported or loaded.
    """

    backend: ClassVar[str] = ""
    """The name it is registered under; the class's name where it has none."""

    def __init__(self, config: ModelConfig | Mapping[str, Any] | str, **settings: Any) -> None:
        made = ModelConfig.of(config)
        self.config = dataclasses.replace(made, **settings) if settings else made
        self.state = State.CREATED
        self.passed_over: tuple[str, ...] = ()
        """Why backends that stand before this one in the config's order were not used."""
        self._loading = threading.RLock()
        self._books = threading.Lock()
        self._running: set[Generation] = set()
        self._held: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._before: ModelConfig | None = None

    # --- what a backend is

    @abstractmethod
    def _initialize_model(self) -> None:
        """Loads the model of `self.config` and sets it on `self`. Whatever it raises becomes an
        LLMInitializationError with that as its cause."""

    @abstractmethod
    def _run_streaming(self, prompt: str, max_tokens: int, temperature: float) -> Iterator[str]:
        """The text of one reply, in pieces. Whatever it raises becomes an LLMInferenceError."""

    # --- what a backend may say better than we can guess

    def format_chat(self, messages: tuple[Message, ...]) -> str:
        """A dialog as one prompt. A single question stays as it is."""
        if len(messages) == 1 and messages[0].role == "user":
            return messages[0].text
        lines = [f"{message.role.capitalize()}: {message.text}" for message in messages]
        return "\n\n".join([*lines, "Assistant:"])

    def count_tokens(self, text: str) -> int:
        """Tokens of a text; about 4 characters each where nobody knows better."""
        return -(-len(text) // 4)

    def describe_model(self) -> dict[str, Any]:
        """What is known of the loaded model: parameters, context, ... Empty where nothing is."""
        return {}

    def describe_file(self) -> dict[str, Any]:
        """What the model's file says of it, without loading it."""
        return {}

    def _release_model(self, held: Mapping[str, Any]) -> None:  # noqa: B027  most have nothing to free
        """Frees what needs more than to be dropped. `held` is what `_initialize_model` had set, by name."""

    def _where(self) -> tuple[str, str]:
        """The device, and the reason for it. Called before each load; ConfigError when the device is not there."""
        return str(self.config.device), "left to the backend"

    def _respond(self, request: Request) -> Iterator[Delta]:
        """The deltas of one reply and `Completed`. Derived from `_run_streaming`; a backend that knows tools, schemas or
        tokens overrides it."""
        for name, given in (("tools", request.tools), ("response_format", request.format)):
            if given:
                raise UnsupportedError(f"the backend '{self.name}' knows no {name}")
        known = {"max_tokens", "temperature", "stop", *self.config.sampling}
        unknown = sorted(set(request.sampling) - known)
        if unknown:
            raise UnsupportedError(
                f"the backend '{self.name}' cannot be told {', '.join(unknown)} for one call",
                hint="It takes max_tokens, temperature and stop; others go into its config.",
            )
        prompt = self.format_chat(request.messages)
        limit = int(request.sampling.get("max_tokens", MAX_TOKENS))
        pieces = self._run_streaming(prompt, limit, float(request.sampling.get("temperature", TEMPERATURE)))
        if isinstance(pieces, str):
            pieces = iter((pieces,))
        if pieces is None:
            raise LLMInferenceError(
                f"{type(self).__name__}._run_streaming gave None",
                hint="It yields the pieces of the reply's text.",
            )
        speech = Speech(request, model=self.model_name, prompt=range(self.count_tokens(prompt)))
        source = iter(pieces)
        count, reason = 0, None
        try:
            while not speech.stopped:
                piece = next(source)
                yield from speech.token(count, piece)
                count += 1
        except StopIteration as end:
            reason = end.value
        finally:
            if isinstance(source, Generator):
                source.close()
        yield from speech.finish(reason or ("length" if count >= limit else "stop"))
        yield Completed(speech.reply())

    # --- asking

    def run(
        self, prompt: Any, max_tokens: int | None = None, temperature: float | None = None, **more: Any
    ) -> Reply:
        """One reply to a text or to a list of messages, with its usage, thinking, tool calls and finish reason.

        Args:
            prompt: a text, which is one question of a user, or messages in OpenAI's form.
            max_tokens, temperature: in place of the config's; 0 is a temperature.
            more: any other sampling setting, and `tools`, `tool_choice`, `response_format`, `logprobs`, `top_logprobs`.

        Raises:
            ConfigError: a setting is unknown or wrong, or a package is missing.
            LLMInitializationError: the model could not be loaded.
            LLMInferenceError: it did not answer; ProviderTimeout after `timeout` seconds, OutOfMemory, UnsupportedError.
            CallCancelled: it was stopped by `cancel`, `close` or `reload_model`.
        """
        request = self._request(prompt, {"max_tokens": max_tokens, "temperature": temperature, **more})
        return self._whole(request)

    def generate_text(
        self, prompt: Any, max_tokens: int | None = None, temperature: float | None = None, **more: Any
    ) -> str:
        """The text of `run`."""
        return self.run(prompt, max_tokens, temperature, **more).content

    def generate_text_streaming(
        self, prompt: Any, max_tokens: int | None = None, temperature: float | None = None, **more: Any
    ) -> Generator[str, None, None]:
        """The text of a reply as it is made. Closing the generator stops the model. Raises as `run` does: wrong settings
        at once, everything else at the piece where it happens."""
        settings = {"max_tokens": max_tokens, "temperature": temperature, **more}
        return _texts(self._follow(self._request(prompt, settings, stream=True)))

    @overload
    def create_chat_completion(
        self, messages: Any, *, stream: Literal[False] = False, **more: Any
    ) -> dict[str, Any]: ...

    @overload
    def create_chat_completion(
        self, messages: Any, *, stream: Literal[True], **more: Any
    ) -> Iterator[dict[str, Any]]: ...

    @overload
    def create_chat_completion(self, messages: Any, *, stream: bool, **more: Any) -> Any: ...

    def create_chat_completion(self, messages: Any, *, stream: bool = False, **more: Any) -> Any:
        """OpenAI's chat completion of a dialog, as a dictionary; with `stream=True` a generator of chunks.

        Args:
            messages: in OpenAI's form.
            stream: chunks as they come: first the role, last the finish reason; with
                `stream_options={"include_usage": True}` one more with the usage.
            more: sampling settings of this call, `tools`, `tool_choice`, `response_format`, `logprobs`, `top_logprobs`,
                `max_completion_tokens`.

        Raises as `run` does.
        """
        options = more.pop("stream_options", None) or {}
        request = self._request(messages, more, stream=stream)
        if stream:
            deltas = self._follow(request)
            return completion.chunks(deltas, self.model_name, usage=bool(options.get("include_usage")))
        return completion.body(self._whole(request), self.model_name)

    def cancel(self) -> int:
        """Stops all replies that are being made; their callers get CallCancelled. Gives how many there were."""
        return self._stop("cancel() was called")

    # --- its life

    def load(self) -> None:
        """Loads the model now; does nothing when it is loaded. Raises as `run` does."""
        with self._loading:
            if self.state is not State.READY:
                self._load()

    def reload_model(
        self, config: ModelConfig | Mapping[str, Any] | None = None, swap: bool = False
    ) -> dict[str, tuple[Any, Any]]:
        """Loads the model again, or another one. Replies in progress are stopped.

        Args:
            config: the new config; None reloads the same.
            swap: load first, then free the old model. Needs memory for both; if loading fails, the old model continues to
                answer. Without it the old model is freed first, and is gone if loading fails.

        The backend stays the same: the config may omit it, name it, or include it in its list.

        Returns the settings that differ, `{name: (before, after)}`. Raises as `run` does; a ConfigError for the new
        config, including another backend, is raised before anything happens.
        """
        new = self.config if config is None else self._settle(ModelConfig.of(config))
        with self._loading:
            self._open()
            changes = self.config.differs(new)
            if config is not None:
                self._before = None  # nothing left that `restore` could undo
            if swap and self.state is State.READY:
                self._swap(new)
            else:
                self._free("the model is loaded anew")
                self.config = new
                self._load()
        return {name: (before, after) for name, (before, after) in changes.items()}

    def set_device(self, device: str) -> str:
        """Moves the model to another device, and gives the one that it is on. The old one goes on answering when the device
        is not there. Before the first load it is only noted."""
        return self._change(device=device)

    def optimize_for_inference(
        self, *, dtype: str | None = None, compile: bool | None = None, flash_attention: bool | None = None
    ) -> dict[str, Any]:
        """Loads the model that answers with cheaper arithmetic. `restore` takes it back.

        Args:
            dtype: `float16`, `bfloat16`; None takes half precision where the device gains by it (cuda, mps) and nothing on
                the CPU.
            compile: whether torch compiles the model.
            flash_attention: as the engine defines it.

        Returns `{"applied": {name: value}, "skipped": {name: reason}}`. Raises UnsupportedError for what this backend has
        not, and what loading raises; the model goes on answering as it was.
        """
        wanted = {"dtype": dtype, "compile": compile, "flash_attention": flash_attention}
        skipped: dict[str, str] = {}
        if all(value is None for value in wanted.values()):
            wanted["dtype"], skipped = self._cheap()
        given = {name: value for name, value in wanted.items() if value is not None}
        lacking = sorted(set(given) - set(self._takes()))
        if lacking:
            raise UnsupportedError(
                f"the backend '{self.name}' has no {', '.join(lacking)}",
                hint=f"It can be loaded with: {', '.join(sorted(self._takes())) or 'nothing else'}.",
            )
        before = self.config
        if given:
            self._change(**given)
            self._before = self._before or before
        return {"applied": given, "skipped": skipped}

    def restore(self) -> None:
        """Takes back all of `optimize_for_inference`."""
        before = self._before
        if before is not None:
            names = ("dtype", "compile", "flash_attention")
            self._change(**{name: getattr(before, name) for name in names})
            self._before = None

    def close(self) -> None:
        """Stops what runs and frees the model, for good. A second time does nothing."""
        with self._loading:
            if self.state is not State.CLOSED:
                self._free("the runner was closed")
                self._to(State.CLOSED)

    def __enter__(self) -> BaseLLMRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- looking

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.backend or type(self).__name__

    @property
    def model_name(self) -> str:
        """The model's name on replies: that of its file or folder."""
        return Path(self.config.model_path).name if self.config.model_path else self.name

    def get_model_info(self) -> dict[str, Any]:
        """What is known without loading anything: `backend`, `model`, `path`, `state`, `device` and why, the config that is
        set, backends that were passed over, `performance` of the last reply (tokens, seconds, tokens per second, seconds to
        the first piece), and what the file says (architecture, parameters, context, quantization); once it is loaded also
        what the engine says."""
        device, reason = self._held.get(
            "device", (str(self.config.device), "not resolved before it is loaded")
        )
        told = {**self.describe_file(), **(self.describe_model() if self.state is State.READY else {})}
        return {
            **told,
            "backend": self.name,
            "model": self.model_name,
            "path": self.config.model_path,
            "state": str(self.state),
            "device": device,
            "device_reason": reason,
            "passed_over": list(self.passed_over),
            "config": self.config.to_dict(),
            "performance": dict(self._last),
        }

    def get_memory_usage(self) -> dict[str, Any]:
        """`parameters`, `weight_bytes`, `process_bytes` and `measured_by`, `device`, `device_bytes`; None for what is not
        known."""
        told = {**self.describe_file(), **(self.describe_model() if self.state is State.READY else {})}
        return memory.usage(told, self._weights(), self._device())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_name!r}, {self.state})"

    # --- within

    def _weights(self) -> str | None:
        return self.config.model_path  # type: ignore[return-value]

    def _device(self) -> str:
        return str(self._held.get("device", (self.config.device, ""))[0])

    def _takes(self) -> tuple[str, ...]:
        """Load settings that this backend has."""
        return tuple(self.config.loading)

    def _cheap(self) -> tuple[str | None, dict[str, str]]:
        """Half precision for the device, or why not."""
        device = self._device().partition(":")[0]
        if "dtype" not in self._takes():
            return None, {"dtype": f"the backend '{self.name}' has none"}
        table = {"cuda": "bfloat16", "mps": "float16"}
        if device in table:
            return table[device], {}
        return None, {"dtype": f"half precision gains nothing on {device}"}

    def _request(self, prompt: Any, given: Mapping[str, Any], *, stream: bool = False) -> Request:
        settings = overrides(given, completion.ARGUMENTS)
        if "max_completion_tokens" in settings:
            limit = settings.pop("max_completion_tokens")
            settings.setdefault("max_tokens", overrides({"max_tokens": limit})["max_tokens"])
        form = completion.schema(settings.pop("response_format", None))
        tools = tuple(settings.pop("tools", ()))
        sampling = {**self.config.sampling, **settings}
        limits = Timeouts() if self.config.timeout is None else Timeouts(total=self.config.timeout)
        asked = completion.messages(prompt)
        return Request(self._asked_for(), asked, tools, sampling, form, stream, limits)

    def _asked_for(self) -> str:
        return str(self.config.model_path or self.name)

    def about(self) -> dict[str, Any]:
        return faults.context(self.name, self.config.model_path, self._device())  # type: ignore[arg-type]

    def begin(self, request: Request) -> Generation:
        """A reply that is being made. Loads the model where need be."""
        with self._loading:
            self._open()
            if self.state is not State.READY:
                self._load()
            source = self._respond(request)
            generation = Generation(
                self._guarded(source, request), self._ended, getattr(source, "interrupt", None)
            )
            with self._books:
                self._running.add(generation)
        return generation

    def _guarded(self, source: Iterator[Delta], request: Request) -> Iterator[Delta]:
        """The same, with typed errors, the time limit, and the figures of the last reply."""
        began, first = time.monotonic(), None
        limit = self.config.timeout
        try:
            for delta in source:
                now = time.monotonic()
                first = first or now - began
                if limit is not None and now - began > limit:
                    raise faults.late(self.about(), limit)
                if isinstance(delta, Completed):
                    self._last = _figures(delta.reply, now - began, first)
                yield delta
        except GeneratorExit:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            made = faults.answering(error, self.about(), limit)
            if made is error:
                raise
            raise made from made.__cause__
        finally:
            if (close := getattr(source, "close", None)) is not None:
                close()

    def _ended(self, generation: Generation) -> None:
        with self._books:
            self._running.discard(generation)

    def _follow(self, request: Request) -> Generator[Delta, None, None]:
        generation = self.begin(request)
        try:
            yield from generation
        finally:
            generation.close()

    def _whole(self, request: Request) -> Reply:
        generation = self.begin(request)
        try:
            for delta in generation:
                if isinstance(delta, Completed):
                    return delta.reply
        finally:
            generation.close()
        raise LLMInferenceError(f"the backend '{self.name}' ended without a reply")

    def _stop(self, why: str) -> int:
        with self._books:
            running = list(self._running)
        for generation in running:
            generation.stop(faults.cancelled(self.about(), why))
        return len(running)

    def _to(self, state: State) -> None:
        assert state in MOVES[self.state] or state is self.state, (self.state, state)
        self.state = state

    def _settle(self, new: ModelConfig) -> ModelConfig:
        """Returns the config of a reload with this runner's backend. Raises ConfigError for another backend."""
        wanted = new.backends
        if wanted and self.name not in wanted:
            if not self.backend and not self.config.backends:
                return new  # an unregistered runner: its config may name anything
            raise ConfigError(
                f"a reload keeps the backend, which is '{self.name}'; got {listing(wanted)}",
                hint="Create another runner: LLMRunnerFactory.create_runner(config)",
            )
        return dataclasses.replace(new, backend=self.config.backend)

    def _open(self) -> None:
        if self.state is State.CLOSED:
            raise LLMInferenceError(f"the runner of {self.model_name} is closed", hint="Create another one.")

    def _load(self) -> None:
        """Loads what the config says; nothing is loaded before. `failed`, with nothing held, when it fails."""
        self._open()
        self._to(State.LOADING)
        before = dict(vars(self))
        try:
            self._initialize()
        except BaseException as error:
            made = self._load_error(error)
            self._put_back(before)
            self._to(State.FAILED)
            raise made from error
        self._to(State.READY)

    def _swap(self, new: ModelConfig) -> None:
        before, held = dict(vars(self)), self._held
        self._to(State.LOADING)
        try:
            self.config = new
            self._initialize()
        except BaseException as error:
            made = self._load_error(error)
            self._put_back(before)
            self._held = held
            self._to(State.READY)
            raise made from error
        self._to(State.READY)
        self._stop("another model has taken its place")
        self._release_model(held)

    def _initialize(self) -> None:
        before = dict(vars(self))
        device = self._where()
        self._held = {"device": device}
        self._initialize_model()
        after = {name: value for name, value in vars(self).items() if name not in _BOOKS}
        set_now = {name: value for name, value in after.items() if before.get(name, _NOTHING) is not value}
        self._held = {**set_now, "device": device}

    def _put_back(self, before: Mapping[str, Any]) -> None:
        for name in [name for name in vars(self) if name not in before and name not in _BOOKS]:
            delattr(self, name)
        for name, value in before.items():
            if name not in _BOOKS:
                setattr(self, name, value)
        self._held = {}

    def _load_error(self, error: BaseException) -> BaseException:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return error
        return faults.loading(error, self.about())

    def _free(self, why: str) -> None:
        """Stops what runs and drops the model."""
        self._stop(why)
        held, self._held = self._held, {}
        for name in held:
            if name != "device" and name in vars(self):
                delattr(self, name)
        if held:
            self._release_model(held)

    def _change(self, **settings: Any) -> str:
        """Other load settings: at once when a model is loaded (the old one answers on failure), else with the first call."""
        with self._loading:
            self._open()
            new = dataclasses.replace(self.config, **settings)
            if new == self.config:
                return self._device()
            if self.state is State.READY:
                self._swap(new)
            else:
                kept, self.config = self.config, new
                try:
                    device, _ = self._where()
                except LLMError as error:
                    made = faults.loading(error, self.about())
                    self.config = kept
                    raise made from error
                return device
            return self._device()


_NOTHING: Final = object()


def _texts(deltas: Generator[Delta, None, None]) -> Generator[str, None, None]:
    with closing(deltas):
        for delta in deltas:
            if isinstance(delta, TextDelta) and delta.text:
                yield delta.text


def _figures(reply: Reply, seconds: float, first: float) -> dict[str, Any]:
    tokens = reply.usage.completion if reply.usage is not None else None
    return {
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds if tokens is not None and seconds > 0 else None,
        "first_piece_seconds": first,
    }
