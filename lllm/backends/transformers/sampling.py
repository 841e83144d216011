"""Which token comes next: the library's logits processors, many rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import torch
from transformers.generation import logits_process as library


class Settings(NamedTuple):
    """How one request wants its tokens chosen. `temperature` 0 takes the likeliest. Rows with equal settings are
    processed together."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether the tokens so far matter."""
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1)

    @property
    def plain(self) -> bool:
        """Whether tokens are drawn from the model's own distribution as it is."""
        return self == _PLAIN

    @classmethod
    def of(cls, sampling: Mapping[str, Any], config: Any) -> Settings:
        """What the request says, else the model's own generation config, else the likeliest token."""
        own = {name: getattr(config, name, None) for name in cls._fields}
        if not getattr(config, "do_sample", False):
            own = {"repetition_penalty": own["repetition_penalty"]}
        elif own["temperature"] is None:
            own["temperature"] = 1.0
        given = {name: sampling.get(name) for name in cls._fields}
        merged = {name: given[name] if given[name] is not None else own.get(name) for name in cls._fields}
        return cls(**{name: value for name, value in merged.items() if value is not None})


_PLAIN: Final = Settings(temperature=1.0)


class History(NamedTuple):
    """The tokens of a row: those of the prompt, those of the reply."""

    prompt: Sequence[int]
    reply: Sequence[int]


@lru_cache(64)
def processors(settings: Settings) -> tuple[Any, ...]:
    """The library's processors, in the order that `generate` has them. ValueError for what they do not take."""
    made: list[Any] = []
    if settings.repetition_penalty != 1:
        made.append(library.RepetitionPenaltyLogitsProcessor(float(settings.repetition_penalty)))
    if settings.temperature == 0:
        return tuple(made)
    if settings.temperature != 1:
        made.append(library.TemperatureLogitsWarper(float(settings.temperature)))
    if settings.top_k:
        made.append(library.TopKLogitsWarper(int(settings.top_k)))
    if settings.top_p < 1:
        made.append(library.TopPLogitsWarper(float(settings.top_p)))
    if settings.min_p:
        made.append(library.MinPLogitsWarper(float(settings.min_p)))
    return tuple(made)


def choose(
    logits: torch.Tensor,
    settings: Sequence[Settings],
    histories: Sequence[History],
    generators: Sequence[torch.Generator | None],
    drawn: dict[int, float] | None = None,
) -> list[int]:
    """The next token of each row. `logits` is (rows, vocabulary), float32, and is written to. `drawn` gets, for each of its
    rows that is sampled, the log-probability of its token in the distribution that it was drawn from: that at the row's
    temperature, without what top_p, a grammar and the like have taken away."""
    if all(one.temperature == 0 and not one.counts for one in settings):
        chosen: list[int] = logits.argmax(-1).tolist()
        return chosen
    groups: dict[Settings, list[int]] = {}
    for row, one in enumerate(settings):
        groups.setdefault(one, []).append(row)
    tokens = [0] * len(settings)
    for one, rows in groups.items():
        scores = logits if len(groups) == 1 else logits[rows]
        ids = None
        if one.counts:
            ids = _padded([[*histories[row].prompt, *histories[row].reply] for row in rows], logits.device)
            for place, row in enumerate(rows):
                lower(scores[place], histories[row].reply, one)
        for process in processors(one):
            scores = process(ids, scores)
        if one.temperature == 0:
            picked = scores.argmax(-1).tolist()
        else:
            picked = draw(torch.softmax(scores, -1), [generators[row] for row in rows])
            if drawn is not None and (wanted := [place for place, row in enumerate(rows) if row in drawn]):
                logs = torch.log_softmax(scores[wanted], -1)
                own = logs.gather(
                    -1, torch.tensor([picked[place] for place in wanted], device=logs.device)[:, None]
                )
                drawn.update(zip((rows[place] for place in wanted), own[:, 0].tolist(), strict=True))
        for row, token in zip(rows, picked, strict=True):
            tokens[row] = token
    return tokens


def draw(odds: torch.Tensor, generators: Sequence[torch.Generator | None]) -> list[int]:
    """A token of each row by its odds, (rows, vocabulary): those that `torch.multinomial` gives for each row alone with its
    generator, by the same numbers, but with one pass over all rows beside them. RuntimeError for odds that are none."""
    picked: list[int]
    if len(generators) == 1:
        picked = torch.multinomial(odds[0], 1, generator=generators[0]).tolist()
        return picked
    least, most = odds.aminmax()
    if not (least >= 0 and most < float("inf")):  # a NaN is neither
        raise RuntimeError("the odds of the next token hold a number that is infinite, NaN or below 0")
    noise = torch.empty_like(odds)
    for own, generator in zip(noise, generators, strict=True):
        own.exponential_(1, generator=generator)
    picked = torch.div(odds, noise, out=noise).argmax(-1).tolist()
    return picked


def _padded(rows: list[list[int]], device: torch.device) -> torch.Tensor:
    # padded with a token that the row has: the library's penalty counts each token once
    widest = max(map(len, rows))
    return torch.tensor([row + row[-1:] * (widest - len(row)) for row in rows], device=device)


def lower(scores: torch.Tensor, reply: Sequence[int], settings: Settings) -> None:
    """Presence and frequency penalties, as OpenAI defines them; the library has none."""
    if not reply or not (settings.presence_penalty or settings.frequency_penalty):
        return
    ids, times = torch.tensor(reply, device=scores.device).unique(return_counts=True)
    scores[ids] -= settings.presence_penalty + settings.frequency_penalty * times


def logprobs(
    logits: torch.Tensor, tokens: Sequence[int], top: Sequence[int]
) -> list[tuple[float, list[tuple[int, float]]]]:
    """Per row: the log-probability of its token, and its `top` likeliest tokens with theirs, of the model's own
    distribution. `logits` is (rows, vocabulary)."""
    logs = torch.log_softmax(logits.float(), -1)
    own = logs.gather(-1, torch.tensor(tokens, device=logs.device)[:, None])[:, 0].tolist()
    most = max(top)
    if not most:
        return [(one, []) for one in own]
    values, ids = logs.topk(min(most, logs.shape[-1]), -1)
    pairs = [list(zip(i, v, strict=True)) for i, v in zip(ids.tolist(), values.tolist(), strict=True)]
    return [(one, best[:wanted]) for one, best, wanted in zip(own, pairs, top, strict=True)]


def entry(
    name: Callable[[int], str],
    token: int,
    logprob: float,
    top: Sequence[tuple[int, float]],
    drawn: float | None = None,
) -> dict[str, Any]:
    """An entry of `Reply.logprobs`. `drawn`: the log-probability in the distribution that the token was drawn from, where
    that is another one than the model's own."""
    found: dict[str, Any] = {
        "token": name(token),
        "id": token,
        "logprob": logprob,
        "top": [{"token": name(one), "id": one, "logprob": value} for one, value in top],
    }
    return found if drawn is None else {**found, "drawn": drawn}
