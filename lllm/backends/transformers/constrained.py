"""Replies that cannot leave their schema: the grammar of llguidance over the model's own tokens."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Final

from lllm.backends.transformers.llguidance import open_llguidance, quiet_limits
from lllm.backends.transformers.load import Loaded
from lllm.errors import LLMInferenceError, UnknownNameError, UnsupportedError

# fail closed, also against what a schema says about itself under "x-guidance"; without white space, in which a small model
# likes to stay for ever
_STRICT: Final = {"whitespace_flexible": False, "lenient": False, "coerce_one_of": False}
_KEPT: Final = 64
_UNIMPLEMENTED: Final = re.compile(r"Unimplemented keys: (\[[^\]]*\])")
_PLAIN: Final = re.compile(r"[!-~]+")
_WORD: Final = re.compile(r'"([^"]+)"')


class Grammars:
    """The grammars for a loaded model's replies. Safe to use from several threads.

    The tables over the vocabulary are made once, when it is first needed; compiled grammars are kept (the last 64).
    Raises DependencyError when llguidance is missing, UnsupportedError for a tokenizer that it cannot read.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._library = open_llguidance()
        self._loaded = loaded
        self._quiet = quiet_limits(self._library)
        self._made: dict[tuple[bool, str], Any] = {}
        self._lock = threading.Lock()
        self._tables = {False: self._vocabulary(tags=False)}

    def _vocabulary(self, *, tags: bool) -> Any:
        """The tables over the vocabulary. With `tags`, tokens such as `<tool_call>` stand for themselves; without, they are
        text like any other, as in a JSON string."""
        loaded = self._loaded
        backend = getattr(loaded.tokenizer, "backend_tokenizer", None)
        try:
            if backend is None:
                raise ValueError("it is not one of the library's fast tokenizers")
            twin = copy(backend)
            twin.no_padding()
            twin.no_truncation()
            told = json.loads(twin.to_str())
            words = told["model"].get("vocab")
            if not tags and isinstance(words, dict):
                plain = [added for added in told["added_tokens"] if not added["special"]]
                plain = [added for added in plain if _PLAIN.fullmatch(added["content"])]
                words.update((added["content"], added["id"]) for added in plain)
                told["added_tokens"] = [added for added in told["added_tokens"] if added not in plain]
            return self._library.LLTokenizer(
                _quoted(told), n_vocab=len(loaded.tokenizer), eos_token=sorted(loaded.eos)
            )
        except ValueError as error:
            raise UnsupportedError(
                f"the tokenizer of {loaded.name} cannot be used with a grammar: {error}"
            ) from error

    def compile(self, schema: Mapping[str, Any] | bool) -> Matcher:
        """A matcher at the start of a reply that is valid against `schema`, written without white space.

        Raises UnsupportedError with the library's message for a schema that it cannot express in full, and for one that
        nothing is valid against.
        """
        return Matcher(self._matcher(self._json(schema)))

    def unenforced(self, schema: Mapping[str, Any] | bool) -> tuple[str, ...]:
        """Keywords of `schema` that cannot be enforced while decoding, sorted; () when `compile` takes all of it.

        A schema that cannot be expressed for another reason gives `("schema",)`.
        """
        try:
            self._matcher(self._json(schema))
        except UnsupportedError as error:
            found = _UNIMPLEMENTED.search(error.message)
            return tuple(sorted(_WORD.findall(found[1]))) if found else ("schema",)
        return ()

    def native_calls(self, tools: Sequence[Mapping[str, Any]], choice: Any) -> Matcher:
        """A matcher at the start of tool calls in the form that the model's template writes:
        `<tool_call>`, a line with name and arguments, `</tool_call>`.

        Args:
            tools: as in `Request.tools`.
            choice: `required` (one call or several) or `{"type": "function", "function": {"name": ...}}` (one, of that tool).

        Arguments that the grammar cannot express are any object: the runtime validates them. Raises UnknownNameError for a tool
        that is not offered, UnsupportedError for a template that writes calls in another form.
        """
        template = str(self._loaded.tokenizer.chat_template or "")
        if "<tool_call>" not in template or "arguments" not in template:
            raise UnsupportedError(
                f"{self._loaded.name} writes tool calls in a form of its own: it cannot be made to call a tool",
                hint="Leave tool_choice out, or give 'auto' or 'none'.",
            )
        functions = [tool.get("function", tool) for tool in tools]
        named = choice["function"]["name"] if isinstance(choice, Mapping) else None
        if named is not None:
            known = [function["name"] for function in functions]
            functions = [function for function in functions if function["name"] == named]
            if not functions:
                raise UnknownNameError("tool", named, known)
        with self._lock:
            if True not in self._tables:
                self._tables[True] = self._vocabulary(tags=True)
        return Matcher(self._matcher(self._calls(functions, several=named is None), tags=True))

    def _calls(self, functions: Sequence[Mapping[str, Any]], *, several: bool) -> str:
        opened, closed = self._tag("<tool_call>"), self._tag("</tool_call>")
        lines = [
            f"start: call{' (NEWLINE call)*' if several else ''}",
            'NEWLINE: "\\n"',
            f'call: {opened} "\\n" body "\\n" {closed}',
            "body: " + " | ".join(f"body_{number}" for number in range(len(functions))),
        ]
        for number, function in enumerate(functions):
            begin = _quoted(f'{{"name": {_quoted(function["name"])}, "arguments": ')
            lines.append(f'body_{number}: {begin} args_{number} "}}"')
            lines.append(f"args_{number}: %json {self._parameters(function.get('parameters'))}")
        return str(self._library.LLMatcher.grammar_from_lark("\n".join(lines)))

    def _parameters(self, schema: Mapping[str, Any] | None) -> str:
        """As the model has read and learnt to write them: with a space behind comma and colon."""
        spaced = {"x-guidance": {**_STRICT, "item_separator": ", ", "key_separator": ": "}}
        given = {"type": "object", **(schema or {})}
        if self.unenforced(given):
            given = {"type": "object"}
        return _quoted({**given, **spaced})

    def _tag(self, tag: str) -> str:
        """A tag as lark writes it: a token of its own, or its text."""
        number = self._loaded.tokenizer.convert_tokens_to_ids(tag)
        table = self._tables[True]
        alone = isinstance(number, int) and number < table.vocab_size and table.is_special_token(number)
        return tag if alone else _quoted(tag)

    def _json(self, schema: Mapping[str, Any] | bool) -> str:
        given = {} if schema is True else {"not": {}} if schema is False else dict(schema)
        try:
            return str(self._library.LLMatcher.grammar_from_json_schema(_quoted(given), overrides=_STRICT))
        except ValueError as error:
            raise _inexpressible(str(error)) from error

    def _matcher(self, grammar: str, *, tags: bool = False) -> Any:
        key = (tags, grammar)
        with self._lock:
            made = self._made.get(key)
        if made is None:
            made = self._library.LLMatcher(self._tables[tags], grammar, log_level=0, limits=self._quiet)
            if made.is_error():
                raise _inexpressible(made.get_error())
            with self._lock:
                self._made[key] = made
                while len(self._made) > _KEPT:
                    self._made.pop(next(iter(self._made)))
        return made.deep_copy()


class Matcher:
    """The position of one reply in its grammar. Used by one thread at a time.

    matcher.mask(logits)      # what must not come next gets -inf
    token = sample(logits)
    matcher.accept(token)
    if matcher.finished: ...  # nothing but the end of the text may follow
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def finished(self) -> bool:
        """True if the reply is complete and nothing may follow it."""
        return bool(self._inner.is_stopped()) and not self._inner.is_error()

    def mask(self, logits: Any) -> None:
        """Sets to -inf, in place, what must not come next: `logits` is a float tensor [vocabulary], which may be longer than
        the tokenizer's vocabulary."""
        import torch

        allowed = torch.frombuffer(bytearray(self._inner.compute_logit_bias()), dtype=torch.uint8)
        self._sound()
        size = min(allowed.numel(), logits.shape[-1])
        logits[..., :size].masked_fill_(allowed[:size].to(logits.device) == 0, float("-inf"))
        logits[..., size:] = float("-inf")

    def accept(self, token: int) -> None:
        """Goes on by one token. Raises LLMInferenceError for one that the grammar does not allow here."""
        self._inner.consume_token(token)
        self._sound()

    def _sound(self) -> None:
        if self._inner.is_error():
            raise LLMInferenceError(f"the grammar of the reply failed: {_told(self._inner.get_error())}")


def _inexpressible(message: str) -> UnsupportedError:
    return UnsupportedError(
        f"the grammar cannot express this schema in full: {_told(message)}",
        hint="Leave these keywords to the validation of the finished reply, or take them out of the schema.",
    )


def _told(message: str) -> str:
    return message.partition("<non-verbose/>")[0].strip()


def _quoted(value: Any) -> str:
    """JSON in the order given: a reply has its properties in the order of the schema."""
    return json.dumps(value, ensure_ascii=False)
