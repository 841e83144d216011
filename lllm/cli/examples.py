"""The examples that `--help` shows, by command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

EXAMPLES: Final[Mapping[str, Sequence[str]]] = {
    "": (
        "lllm create demo && cd demo",
        'lllm run "What is 17 times 23?"',
        "lllm show --last",
        "lllm replay --last",
    ),
    "create": (
        "lllm create demo",
        "lllm create team --template example",
        "lllm create sums --template train",
    ),
    "run": (
        'lllm run "What is 17 times 23?"',
        'cat app.log | lllm run "What went wrong here?"',
        'lllm run "Book it" --approve all --json > result.json',
        'lllm run "Hello" --model openai/gpt-4o-mini --set temperature=0',
    ),
    "chat": ("lllm chat", "lllm chat --agent vanilla --model openai/gpt-4o-mini", "lllm chat --continue"),
    "sessions": (
        "lllm sessions",
        "lllm sessions --status failed --since 2d",
        "lllm sessions --text refund --long",
    ),
    "sessions artifacts": ("lllm sessions artifacts --last --save out",),
    "sessions copy": (
        "lllm sessions copy --all --to localfile:backup",
        "lllm sessions copy 1a2b3c4d --to kept.lllm",
    ),
    "sessions prune": ("lllm sessions prune --older-than 30d --dry-run", "lllm sessions prune --keep 100"),
    "totals": ("lllm totals --by agent --since 7d",),
    "show": ("lllm show --last", "lllm show 1a2b3c4d --full", "lllm show --last --events | head"),
    "replay": ("lllm replay --last", "lllm replay 1a2b3c4d --json"),
    "resume": ("lllm resume", "lllm resume 1a2b3c4d --decide c1/call_2_1=retry"),
    "fork": (
        "lllm fork --last --model openai/gpt-4o-mini",
        'lllm fork 1a2b3c4d --at 6 --edit "391"',
        'lllm fork --last --arg task="What is 2 times 3?"',
    ),
    "compare": ("lllm compare 1a2b3c4d 5e6f7a8b --html difference.html",),
    "whatif": ("lllm whatif --last 20 --model openai/gpt-4o-mini",),
    "test": ("lllm test", "lllm test sums --json"),
    "test keep": ("lllm test keep --last --name sums",),
    "test accept": ("lllm test accept sums",),
    "export": (
        "lllm export --last --out session.html",
        "lllm export --last 100 --format trl --out rows.jsonl",
    ),
    "import": ("lllm import session.lllm", "lllm import messages.jsonl --model openai/gpt-4o-mini"),
    "check": ("lllm check", "lllm check config/demo/default.yaml"),
    "list": ("lllm list", "lllm list models"),
    "models": ("lllm models",),
    "models show": ("lllm models show embedded",),
    "models bench": ("lllm models bench embedded",),
    "models pull": ("lllm models pull owner/name",),
    "models convert": (
        "lllm models convert runs/rl models/trained.gguf",
        "lllm models convert models/base models/tuned.gguf --lora runs/lora --kind F16",
    ),
    "proxy": ("lllm proxy",),
    "proxy show": ("lllm proxy show weather", "lllm proxy show weather.daily"),
    "proxy search": ("lllm proxy search cancel an order", 'lllm proxy search "who is in the team"'),
    "proxy import": (
        "lllm proxy import petstore.yaml --name petstore",
        "lllm proxy import https://api.example.com/openapi.json --auth header:X-Api-Key:EXAMPLE_KEY",
        'lllm proxy import openapi.json --tag repos --exclude "DELETE *"',
    ),
    "proxy export": ("lllm proxy export weather --out weather.openapi.json",),
    "proxy call": (
        "lllm proxy call weather.daily city=Oslo days=3",
        """lllm proxy call weather.daily '{"city": "Oslo"}' --json""",
    ),
    "proxy test": ("lllm proxy test", "lllm proxy test weather --all"),
    "rl": ("lllm rl",),
    "rl run": (
        "lllm rl run rl/arithmetic --model embedded --first 50",
        "lllm rl run envs/questions.yaml --agent assistant --samples 4 --run monday",
    ),
    "rl check": ("lllm rl check rl/arithmetic",),
    "rl score": ("lllm rl score rl/arithmetic --last", "lllm rl score rl/arithmetic 1a2b3c4d"),
    "train": (
        "lllm train --config train.yaml --dry-run",
        "lllm train --set config.max_steps=60 --set seed=1",
        "lllm train --resume",
    ),
    "schema": ("lllm schema > system.schema.json",),
    "doctor": ("lllm doctor",),
}
