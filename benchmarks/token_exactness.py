"""Whether training rows are what the model read and wrote: tool rollouts of several turns, on transformers and llama.cpp.

    python -m benchmarks.token_exactness [--rollouts 1000] [--backend transformers|llama_cpp]

The model is watched from outside: what its forward pass consumes at which position (a mirror of its cache), and which token is
drawn after it. From these alone, without any code of `lllm.rl.rows`, rows and masks are computed again, and held against the
rows that a trainer would be given; the log says only which replies were rejected. Rollouts go one after another, so that each
pass belongs to one of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lllm import LLM, RLEnv, tool
from lllm.backends.embedded import WEIGHTS
from lllm.log.memory import MemoryLog
from lllm.rl.rows import TokenRow, recorded, rows_of
from lllm.rl.trainers.rollouts import SAMPLED

Watched = list[tuple[list[int], int]]
"""For each token that was drawn: what the model had in its cache, and the token."""


@tool(repeatable=True)
def calculator(expression: str) -> str:
    """Calculates.

    Args:
        expression: arithmetic.
    """
    left, sign, right = next(
        expression.replace(" ", "").partition(sign) for sign in "+-*/" if sign in expression
    )
    value = {"+": float.__add__, "-": float.__sub__, "*": float.__mul__, "/": float.__truediv__}[sign](
        float(left), float(right)
    )
    return f"{value:g}"


def rows(count: int) -> list[dict[str, Any]]:
    asked = ("What is {a} times {b}?", "Divide {a} by {b}.", "Add {a} and {b}.", "{a} minus {b}?")
    return [
        {"prompt": asked[n % 4].format(a=7 * n % 97 + 2, b=n % 13 + 2), "answer": ""} for n in range(count)
    ]


class Mirror:
    """What a model has in its cache, by what it was seen to consume."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.drawn: Watched = []

    def consume(self, tokens: list[int], start: int) -> None:
        """Takes tokens that were computed from position `start` on: what stood behind it is gone."""
        del self.tokens[start:]
        assert len(self.tokens) == start, "a position was never computed"
        self.tokens += tokens

    def draw(self, token: int) -> None:
        self.drawn.append((list(self.tokens), token))


@contextmanager
def watched_torch(backend: Any) -> Iterator[Mirror]:
    """Watches a model of transformers: its embedding layer, and torch's own drawing of a token."""
    import torch

    mirror = Mirror()
    model = backend.load(str(WEIGHTS)).loaded.model

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        at = kwargs["position_ids"]
        assert ids.size(0) == 1, "more than one rollout at once"
        mirror.consume(ids[0].tolist(), int(at[0, 0]))

    multinomial = torch.multinomial

    def drawing(*args: Any, **kwargs: Any) -> Any:
        token = multinomial(*args, **kwargs)
        mirror.draw(int(token))
        return token

    hook = model.model.register_forward_pre_hook(before, with_kwargs=True)
    torch.multinomial = drawing
    try:
        yield mirror
    finally:
        hook.remove()
        torch.multinomial = multinomial


@contextmanager
def watched_llama() -> Iterator[Mirror]:
    """Watches llama-cpp-python: the library's own functions that decode, forget and sample."""
    import llama_cpp

    mirror = Mirror()
    decode, sample = llama_cpp.llama_decode, llama_cpp.llama_sampler_sample
    remove, clear = llama_cpp.llama_memory_seq_rm, llama_cpp.llama_memory_clear

    def decoding(context: Any, batch: Any) -> Any:
        mirror.tokens += [batch.token[place] for place in range(batch.n_tokens)]
        return decode(context, batch)

    def removing(memory: Any, sequence: Any, start: Any, end: Any) -> Any:
        assert int(end) == -1
        del mirror.tokens[max(0, int(start)) :]
        return remove(memory, sequence, start, end)

    def sampling(chain: Any, context: Any, place: Any) -> Any:
        token = sample(chain, context, place)
        mirror.draw(int(token))
        return token

    llama_cpp.llama_decode, llama_cpp.llama_sampler_sample = decoding, sampling

    def clearing(memory: Any, data: Any) -> Any:
        mirror.tokens.clear()
        return clear(memory, data)

    llama_cpp.llama_memory_seq_rm, llama_cpp.llama_memory_clear = removing, clearing
    try:
        yield mirror
    finally:
        llama_cpp.llama_decode, llama_cpp.llama_sampler_sample = decode, sample
        llama_cpp.llama_memory_seq_rm, llama_cpp.llama_memory_clear = remove, clear


def replies(drawn: Watched) -> list[tuple[list[int], list[int]]]:
    """Prompt and reply of each request: a reply goes on while the cache is what it was, and the token drawn before."""
    found: list[tuple[list[int], list[int]]] = []
    for cache, token in drawn:
        if found and cache == [*found[-1][0], *found[-1][1]]:
            found[-1][1].append(token)
        else:
            found.append((cache, [token]))
    return found


def computed_rows(
    requests: list[tuple[list[int], list[int]]], rejected: list[bool]
) -> list[tuple[list[int], list[int]]]:
    """Ids and masks of a rollout's rows, from what was seen of its requests: each whole conversation that no later one goes on
    with, its tokens with loss where a reply wrote them that was not rejected and that no row before has with loss."""
    texts = [[*prompt, *reply] for prompt, reply in requests]
    ends = [
        place
        for place, text in enumerate(texts)
        if not any(other[: len(text)] == text for other in (prompt for prompt, _ in requests[place + 1 :]))
    ]
    found, counted = [], set()
    for end in ends:
        ids, mask = texts[end], [0] * len(texts[end])
        for place, (prompt, reply) in enumerate(requests[: end + 1]):
            if ids[: len(texts[place])] == texts[place] and not rejected[place] and place not in counted:
                counted.add(place)
                mask[len(prompt) : len(prompt) + len(reply)] = [1] * len(reply)
        if any(mask):
            found.append((ids, mask))
    return found


def rejections(store: Any, session: str) -> list[bool]:
    """For each reply of a logged session, whether it was rejected, and something came after it."""
    from lllm.core.envelope import open_event

    kinds = [open_event(body)["kind"] for body in store.read(session)]
    found: list[bool] = []
    for kind in kinds:
        if kind == "ModelReplied":
            found.append(False)
        elif kind == "ReplyRejected":
            found[-1] = True
    if found:
        found[-1] = False  # nothing mended it: it is the outcome
    return found


def whole(row: TokenRow) -> tuple[list[int], list[int]]:
    return list(row.ids), [*[0] * len(row.prompt), *row.mask]


def compare(kind: str, count: int) -> dict[str, Any]:
    """Does rollouts on a backend, and compares. Returns the counts."""
    starts: list[int] = []
    watching: list[Mirror] = []

    def setup() -> None:
        starts.append(len(watching[0].drawn))

    env = RLEnv(rows(count), lambda: 0.0, tools=[calculator], max_turns=4, name="exact", setup=setup)
    store, began = MemoryLog(), time.monotonic()
    settings: dict[str, Any] = {**SAMPLED, "temperature": 1.2, "max_tokens": 64}
    if kind == "transformers":
        from lllm.backends.transformers import TransformersBackend

        backend: Any = TransformersBackend(
            device="cpu",
            dtype="float32",
            chat_template=WEIGHTS.with_name("chat_template.jinja").read_text(),
            prefix_tokens=0,  # kept beginnings come from caches of other requests, which a mirror of one does not have
        )
        with watched_torch(backend) as mirror:
            watching.append(mirror)
            found = env(LLM(_Named(backend)), store=store, limit=1, **settings)
    else:
        from lllm.backends.embedded import EmbeddedBackend

        settings = {name: value for name, value in settings.items() if name not in ("min_p",)}
        with watched_llama() as mirror:
            watching.append(mirror)
            found = env(
                LLM(EmbeddedBackend(slots=1, engine="llama-cpp-python")),
                store=store,
                limit=1,
                min_p=0.0,
                **settings,
            )
    equal_ids = equal_masks = several_rows = tokens = with_loss = 0
    for place, one in enumerate(found):
        end = starts[place + 1] if place + 1 < len(found) else len(mirror.drawn)
        computed = computed_rows(
            replies(mirror.drawn[starts[place] : end]), rejections(store, one.session or "")
        )
        given = [whole(row) for row in rows_of(recorded(store, one.session or "").segments(), one.session)]
        equal_ids += sorted(ids for ids, _ in given) == sorted(ids for ids, _ in computed)
        equal_masks += sorted(given) == sorted(computed)
        several_rows += len(computed) > 1
        tokens += sum(len(ids) for ids, _ in computed)
        with_loss += sum(sum(mask) for _, mask in computed)
    return {
        "backend": kind,
        "rollouts": len(found),
        "turns": sum(one.turns for one in found),
        "several_turns": sum(one.turns > 1 for one in found),
        "several_rows": several_rows,
        "tokens": tokens,
        "with_loss": with_loss,
        "missing": len([one for one in found if one.status == "missing"]),
        "equal_ids": equal_ids,
        "equal_masks": equal_masks,
        "seconds": time.monotonic() - began,
    }


class _Named:
    """The weights of the embedded model on transformers."""

    name = "watched"
    needs_model = False
    only_model = "watched"

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.capabilities = backend.capabilities

    def stream(self, request: Any) -> Any:
        return self._backend.stream(request._replace(model=str(WEIGHTS)))

    async def aclose(self) -> None:
        await self._backend.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=1000)
    parser.add_argument("--backend", choices=("transformers", "llama_cpp"))
    options = parser.parse_args()
    for kind in ("transformers", "llama_cpp") if options.backend is None else (options.backend,):
        found = compare(kind, options.rollouts)
        print(
            f"{kind}: {found['rollouts']} rollouts, {found['several_turns']} of several turns, "
            f"{found['several_rows']} of several rows, {found['turns']} replies, "
            f"{found['tokens']} tokens, {found['with_loss']} of them with loss, {found['missing']} missing; ids equal in "
            f"{found['equal_ids']}, masks in {found['equal_masks']}; {found['seconds']:.0f} s"
        )


if __name__ == "__main__":
    main()
