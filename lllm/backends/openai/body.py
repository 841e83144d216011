"""The request body: `Message.wire()` bytes joined, and around them everything that does not change between turns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from lllm.backends.openai.parameters import acceptable
from lllm.backends.openai.sent import Renamed, form
from lllm.backends.sampling import EXTENSIONS, RESERVED, SAMPLING, check_names
from lllm.core.canonical import encode
from lllm.errors import BadRequestError, ConfigError, UnsupportedError, nearest
from lllm.models.message import Message
from lllm.ports import Capabilities, Request

_REASONING: Final = re.compile(r"(?:^|/)(?:o[1-9]|gpt-(?:[5-9]|\d\d))(?![a-z0-9])(?!.*-chat)")
_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")
_CACHED: Final = 64


def is_reasoning(model: str) -> bool:
    """Whether OpenAI counts this among its reasoning models: other length limit, no temperature."""
    return _REASONING.search(model.lower()) is not None


class Bodies:
    """Makes request bodies for one backend.

    What surrounds the messages (model, tools, format, sampling) is encoded once and kept by the identity of the tools
    and the format and the value of the sampling: treat tools that were given once as values, as the Request says.
    """

    def __init__(
        self,
        capabilities: Capabilities,
        *,
        compatible: bool,
        echo_thinking: bool = False,
        json_schema: bool = True,
        place: str | None = None,
    ) -> None:
        self._capabilities = capabilities
        self._compatible = compatible
        self._echo = echo_thinking
        self._place = place
        self.json_schema = json_schema
        """Whether the endpoint is told of a format."""
        # the objects whose identity is in the key are kept with the bytes, so that no other can take their place
        self._tails: dict[Any, tuple[Any, Any, bytes]] = {}

    def sends_format(self, request: Request) -> bool:
        """True if the request's output schema is sent to the endpoint."""
        return request.format is not None and self.json_schema and request.format.get("sent", True) is True

    def enforced(self, request: Request) -> str | None:
        """What enforces the output schema: the `provider`, or `validation` afterwards; None if there is no schema."""
        if request.format is None:
            return None
        return "provider" if self.sends_format(request) else "validation"

    def encode(self, request: Request) -> bytes:
        """The body. ConfigError or UnsupportedError when the request asks for what this endpoint has not."""
        tools, form = request.tools, request.format
        if not self._capabilities.vision and any(_pictures(message) for message in request.messages):
            raise UnsupportedError("this endpoint is declared to see no images")
        try:
            key = (request.model, id(tools), id(form), request.stream, *request.sampling.items())
            found = self._tails.get(key)
        except TypeError:  # a list among the values (stop): not hashable, encoded every time
            key, found = None, None
        if found is None:
            found = (tools, form, self._tail(request))
            if key is not None:
                if len(self._tails) >= _CACHED:
                    self._tails.clear()
                self._tails[key] = found
        try:
            renamed = Renamed(self._place, request.model)
            messages = b",".join(
                [
                    message.wire()
                    if message.extra is None
                    and message.extra_from is None
                    and not self._echo
                    and not renamed.ids
                    else self._special(message, renamed, request.model)
                    for message in request.messages
                ]
            )
        except (TypeError, ValueError) as error:
            raise BadRequestError(f"a message cannot be written as JSON: {error}") from None
        return b'{"messages":[' + messages + found[2]

    def _special(self, message: Message, renamed: Renamed, model: str) -> bytes:
        """Encodes a message that is sent differently from its plain form."""
        sent = renamed.message(message)
        thinking = sent.thinking if self._echo else None
        if sent.plain and thinking is None:
            return sent.wire()
        out = form(sent, self._place, model)
        return encode(out if thinking is None else out | {"reasoning_content": thinking})

    def _tail(self, request: Request) -> bytes:
        rest: dict[str, Any] = {"model": request.model}
        if request.tools:
            if not self._capabilities.tools:
                raise UnsupportedError("this endpoint is declared to have no tools")
            rest["tools"] = [acceptable(tool) for tool in request.tools]
        rest |= self.options(request)
        if request.format is not None and self.sends_format(request):
            rest["response_format"] = {"type": "json_schema", "json_schema": schema_form(request.format)}
        if request.stream:
            rest["stream"] = True
            rest["stream_options"] = {"include_usage": True}
        rest |= extra_body(request.sampling)
        try:
            return b"]," + orjson.dumps(rest)[1:]
        except TypeError as error:
            raise ConfigError(f"sampling, tools or format cannot be written as JSON: {error}") from None

    def options(self, request: Request) -> dict[str, Any]:
        """The sampling part of the body, checked."""
        given = {key: value for key, value in request.sampling.items() if value is not None}
        given.pop("extra_body", None)
        out: dict[str, Any] = {}
        check_names(given, (*SAMPLING, *(EXTENSIONS if self._compatible else ())))
        for key, value in given.items():
            out[SAMPLING.get(key, key)] = value
        self._check(request, out)
        return out

    def _check(self, request: Request, out: dict[str, Any]) -> None:
        if out.pop("return_token_ids", None):
            if not self._capabilities.token_ids:
                raise UnsupportedError(
                    "this endpoint is not known to give token ids",
                    hint="vLLM does: declare capabilities=Capabilities(token_ids=True), or use a local backend.",
                )
            out["return_token_ids"] = True
        if out.get("top_logprobs") and "logprobs" not in out:
            out["logprobs"] = True
        if out.get("logprobs") and not self._capabilities.logprobs:
            raise UnsupportedError("this endpoint is declared to have no log-probabilities")
        if "tool_choice" in out:
            if request.tools:
                out["tool_choice"] = _tool_choice(out["tool_choice"], request.tools)
            else:
                del out["tool_choice"]  # without tools there is nothing to choose, and OpenAI answers 400
        if is_reasoning(request.model):
            if "max_tokens" in out:
                out.setdefault("max_completion_tokens", out.pop("max_tokens"))
            if out.get("reasoning_effort") != "none":  # without reasoning these models do take both
                for key in ("temperature", "top_p"):
                    if out.get(key) in (None, 1, 1.0):
                        out.pop(key, None)
                    else:
                        raise UnsupportedError(
                            f"{request.model} is a reasoning model and takes no {key}",
                            hint=f"Leave {key} out, set reasoning_effort, or force it: extra_body={{'{key}': ...}}.",
                        )


def _pictures(message: Message) -> bool:
    return not isinstance(message.content, str) and any(p.get("type") == "image_url" for p in message.content)


def extra_body(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The provider's own keys. They may not replace what the backend writes."""
    extra = sampling.get("extra_body") or {}
    if not isinstance(extra, Mapping):
        raise ConfigError(f"extra_body is {type(extra).__name__}; it is a mapping of provider keys")
    for key in extra:
        if key in ("stream", "messages", "model", "tools"):
            raise ConfigError(f"extra_body may not hold '{key}'", hint=RESERVED[key])
    return dict(extra)


def schema_form(form: Mapping[str, Any]) -> dict[str, Any]:
    """A request's format as `json_schema` has it."""
    name = _NAME.sub("_", str(form.get("name") or "reply"))[:64]
    return {"name": name, "schema": form["schema"], "strict": bool(form.get("strict", True))}


def _tool_choice(choice: Any, tools: Sequence[Mapping[str, Any]]) -> Any:
    """`auto`, `none`, `required`, the wire's own form, or the bare name of an offered tool."""
    if not isinstance(choice, str) or choice in ("auto", "none", "required"):
        return choice
    names = [str(tool.get("function", {}).get("name")) for tool in tools]
    if choice not in names:
        close = nearest(choice, [*names, "auto", "none", "required"])
        raise ConfigError(
            f"tool_choice is '{choice}', which is not an offered tool",
            hint=f"Did you mean '{close}'?"
            if close
            else f"Offered: {', '.join(names)}; or auto, none, required.",
        )
    return {"type": "function", "function": {"name": choice}}
