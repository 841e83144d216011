"""From a request to a row: what it asks for is checked, rendered and held to its grammar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lllm.backends.local.dialog import thinking_mode
from lllm.backends.local.formats import whole_schema
from lllm.backends.local.speech import Speech
from lllm.backends.thinking_forms import closers_after
from lllm.backends.transformers.alone import check
from lllm.backends.transformers.constrained import Grammars, Matcher
from lllm.backends.transformers.decode import Text
from lllm.backends.transformers.load import Loaded
from lllm.backends.transformers.row import Mail, Row
from lllm.backends.transformers.sampling import Settings, processors
from lllm.backends.transformers.schemas import bounded, without
from lllm.backends.transformers.template import text, tokens
from lllm.errors import BadRequestError, ContextLengthError, UnsupportedError
from lllm.ports import Request

DEFAULT_TOKENS: Final = 1024
"""The longest reply where neither the request nor the model's generation config says."""


QUICK_CHARACTERS: Final = 4000
QUICK_TOOLS: Final = 4
"""A dialog and tools up to which a request is rendered in the time that another thread takes to begin with it."""


class Wanted(NamedTuple):
    """A row, and how its reply is held to the request's format."""

    row: Row
    enforced: str | None


def is_quick(loaded: Loaded, request: Request) -> bool:
    """True for a request that `row_of` renders in about a millisecond: it has a short dialog, few tools and no grammar."""
    if (
        request.format is not None
        or request.sampling.get("tool_choice") not in (None, "auto", "none")
        or len(request.tools) > QUICK_TOOLS
        or not getattr(loaded.tokenizer, "is_fast", False)
    ):
        return False
    left = QUICK_CHARACTERS
    for message in request.messages:
        if not isinstance(message.content, str):
            return False
        left -= len(message.content) + len(message.thinking or "")
        left -= sum(len(call.arguments) for call in message.tool_calls)
        if left < 0:
            return False
    return True


def row_of(loaded: Loaded, grammars: Callable[[], Grammars], request: Request, mail: Mail) -> Wanted:
    """What `request` means for this model. Raises ProviderError and ConfigError."""
    sampling = request.sampling
    choice = sampling.get("tool_choice")
    tools = () if choice == "none" else request.tools
    request = request._replace(tools=tools)
    settings = _settings(sampling, loaded)
    options = dict(sampling.get("generate") or {})
    check(options)
    rendered = text(loaded, request.messages, tools)
    prompt = tokens(loaded, rendered)
    left = loaded.context - len(prompt)
    if left < 1:
        raise ContextLengthError(
            f"{loaded.name} reads {loaded.context} tokens, prompt and reply together: the prompt has {len(prompt)}",
            hint="Shorten the prompt, or use a model with a longer context.",
        )
    own = getattr(loaded.model.generation_config, "max_new_tokens", None)
    wanted = sampling.get("max_tokens")
    mode = thinking_mode(rendered)
    matcher, enforced = _held(request, choice, grammars)
    if matcher is not None and mode == "auto":
        mode = "off"  # under a grammar a tag is text, in a string of the JSON
    row = Row(
        prompt,
        limit=min(left, wanted if wanted is not None else own or DEFAULT_TOKENS),
        settings=settings,
        speech=Speech(request, model=loaded.name, prompt=prompt, mode=mode),
        text=Text(loaded.tokenizer),
        eos=loaded.eos,
        mail=mail,
        follow=request.stream,
        seed=sampling.get("seed"),
        logprobs=int(sampling.get("top_logprobs") or 0) if sampling.get("logprobs") else None,
        matcher=matcher,
        # the template has opened the thinking: what the schema says begins behind it
        after=closers_after(rendered)[0] if mode == "prefilled" and matcher is not None else None,
        options=options,
    )
    return Wanted(row, enforced)


def _held(
    request: Request, choice: Any, grammars: Callable[[], Grammars]
) -> tuple[Matcher | None, str | None]:
    if request.tools and choice not in (None, "auto"):
        validation = None if request.format is None else "validation"
        return grammars().native_calls(request.tools, choice), validation
    if request.format is None:
        return None, None
    whole = whole_schema(request.format)
    if request.tools or whole is None:  # the reply may be a call or an answer: no schema covers both
        return None, "validation"
    schema = bounded(whole)
    made = grammars()
    try:
        return made.compile(schema), "grammar"
    except UnsupportedError:
        left = made.unenforced(schema)
        if left == ("schema",):
            return None, "validation"
        try:
            return made.compile(without(schema, left)), f"grammar except {', '.join(left)}"
        except UnsupportedError:
            return None, "validation"


def _settings(sampling: Mapping[str, Any], loaded: Loaded) -> Settings:
    for name, fits, wanted in _FORMS:
        value = sampling.get(name)
        if value is not None and not fits(value):
            raise BadRequestError(f"{name} is {value!r}; it is {wanted}")
    settings = Settings.of(sampling, loaded.model.generation_config)
    try:
        processors(settings)
    except (ValueError, TypeError) as error:
        raise BadRequestError(f"the sampling of this request makes no sense: {error}") from error
    return settings


def _number(low: float, high: float = float("inf")) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    )


def _whole(low: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= low


def _strings(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, Sequence) and all(isinstance(one, str) for one in value)
    )


_FORMS: Final = (
    ("temperature", _number(0), "a number, 0 or more"),
    ("top_p", _number(0, 1), "a number from 0 to 1"),
    ("top_k", _whole(0), "a whole number, 0 or more"),
    ("min_p", _number(0, 1), "a number from 0 to 1"),
    ("repetition_penalty", lambda value: _number(0)(value) and value > 0, "a number above 0"),
    ("presence_penalty", _number(-2, 2), "a number from -2 to 2"),
    ("frequency_penalty", _number(-2, 2), "a number from -2 to 2"),
    ("max_tokens", _whole(1), "a whole number, 1 or more"),
    ("seed", lambda value: type(value) is int, "a whole number"),
    ("stop", _strings, "a text or a list of texts"),
    ("logprobs", lambda value: isinstance(value, bool), "true or false"),
    ("top_logprobs", _whole(0), "a whole number, 0 or more"),
    ("token_ids", lambda value: isinstance(value, bool), "true or false"),
    ("generate", lambda value: isinstance(value, Mapping), "a mapping"),
)
