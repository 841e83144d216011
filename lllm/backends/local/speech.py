"""From tokens, one at a time, to deltas and a reply: stop strings, thinking and tool calls found on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lllm.backends.thinking import Mode, Splitter
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply, Usage
from lllm.ports import Delta, Request


class Speech:
    """One reply of a local model, as it is decoded.

        speech = Speech(request, model="tiny", prompt=ids)
        for token, text in decoding:
            yield from speech.token(token, text)
            if speech.stopped:
                break
        yield from speech.finish("stop" or "length")
        yield Completed(speech.reply())

    A stop string may come cut over tokens, and may end within one: what may become one is held back; the text before it
    is the reply, the string itself is not, and no token after it is wanted. Stop strings look at what the model writes,
    not at its thinking alone: the first one anywhere ends the reply.

    Args:
        request: what is answered: its stop strings, whether it offers tools, what `sampling` wants to see.
        model: the model's name on the reply.
        prompt: ids of the rendered request.
        cached: how many of them needed no computing.
        mode: how thinking is told apart, see `lllm.backends.thinking`.
    """

    def __init__(
        self, request: Request, *, model: str, prompt: Sequence[int], cached: int = 0, mode: Mode = "auto"
    ) -> None:
        stop = request.sampling.get("stop") or ()
        self._stops = tuple(s for s in ((stop,) if isinstance(stop, str) else stop) if s)
        self._splitter = Splitter(
            mode,
            tools=bool(request.tools),
            literal=request.literal_tags,
            structured=request.format is not None and mode == "auto",
        )
        self.turn = len(request.messages)
        self._model = model
        self._prompt = prompt
        self.cached = cached
        self._wants_ids = bool(request.sampling.get("token_ids"))
        self._wants_logprobs = bool(request.sampling.get("logprobs"))
        self._held = ""
        self._ids: list[int] = []
        self._logprobs: list[Mapping[str, Any]] = []
        self._reason = "stop"
        self.stopped = False
        """Whether a stop string has come: nothing more is wanted."""

    def token(self, token: int, text: str, logprob: Mapping[str, Any] | None = None) -> list[Delta]:
        """Takes one token and the text that it completes ('' while a character is not whole). `logprob` is an entry of
        `Reply.logprobs`."""
        self._ids.append(token)
        if logprob is not None:
            self._logprobs.append(logprob)
        return self._say(text)

    def finish(self, reason: str) -> list[Delta]:
        """No more tokens: `reason` is stop or length. Gives what was held back."""
        out: list[Delta] = []
        if not self.stopped:
            self._reason = reason
            out += self._splitter.feed(self._held)
            self._held = ""
        out += self._splitter.finish(cut=self._reason == "length")
        return self._named(out)

    def reply(self) -> Reply:
        """The whole reply, after `finish`."""
        splitter = self._splitter
        calls = tuple(
            FunctionCall(self._id(number), call.name, call.arguments)
            for number, call in enumerate(splitter.calls)
        )
        content, raw = splitter.content, splitter.raw
        return Reply(
            content=content,
            thinking=splitter.thinking,
            tool_calls=calls,
            finish_reason="tool_calls" if calls and self._reason == "stop" else self._reason,
            usage=Usage(len(self._prompt), len(self._ids), self.cached),
            model=self._model,
            raw=raw if raw != content else None,
            logprobs=self._logprobs if self._wants_logprobs else None,
            token_ids=self._ids if self._wants_ids else None,
            prompt_token_ids=list(self._prompt) if self._wants_ids else None,
        )

    def _say(self, text: str) -> list[Delta]:
        if self.stopped or not text:
            return []
        if not self._stops:
            return self._named(self._splitter.feed(text))
        self._held += text
        found = min((at for stop in self._stops if (at := self._held.find(stop)) >= 0), default=-1)
        if found >= 0:
            self.stopped = True
            said, self._held = self._held[:found], ""
        else:
            keep = self._undecided()
            said, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return self._named(self._splitter.feed(said))

    def _undecided(self) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        held = self._held
        longest = max(map(len, self._stops)) - 1
        return next(
            (
                size
                for size in range(min(longest, len(held)), 0, -1)
                if any(stop.startswith(held[-size:]) for stop in self._stops)
            ),
            0,
        )

    def _named(self, pieces: Sequence[Any]) -> list[Delta]:
        """Calls get ids that depend on their place alone: the same reply has the same ids."""
        return [
            piece._replace(id=self._id(piece.index)) if hasattr(piece, "arguments") else piece
            for piece in pieces
        ]

    def _id(self, number: int) -> str:
        return f"call_{self.turn}_{number + 1}"
