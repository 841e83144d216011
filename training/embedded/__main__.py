"""`python -m training.embedded COMMAND`: generate, train, convert, evaluate, card, forms, or all of them in turn."""

from __future__ import annotations

import argparse
import random
import sys
from importlib import import_module

COMMANDS = {
    "generate": ("print sample dialogues as the model sees them", ()),
    "train": ("train on generated dialogues (needs torch)", ("train",)),
    "convert": ("write a trained run as GGUF (needs torch and gguf)", ("convert",)),
    "evaluate": ("measure the GGUF (needs xllamacpp)", ("evaluate",)),
    "card": ("write the figures into the model card", ("card",)),
    "forms": ("write the shipped weights in other forms (needs gguf and safetensors)", ("forms",)),
    "all": ("train, convert, evaluate and card, with the defaults", ("train", "convert", "evaluate", "card")),
}


def generate(count: int, seed: int) -> None:
    """Print sample dialogues."""
    from . import chat, dialogues

    rng = random.Random(seed)
    for _ in range(count):
        print(chat.text(dialogues.draw(rng)), end="\n\n")


def main(given: list[str]) -> None:
    """Run one command; each brings its own options and imports only what it needs."""
    listing = "\n".join(f"  {name:9} {help}" for name, (help, _) in COMMANDS.items())
    name = given[0] if given else ""
    if name not in COMMANDS:
        sys.exit(f"usage: python -m training.embedded COMMAND [options]\n\n{listing}")
    rest = [] if name == "all" else given[1:]
    if name == "generate":
        parser = argparse.ArgumentParser(prog="python -m training.embedded generate")
        parser.add_argument("--count", type=int, default=10)
        parser.add_argument("--seed", type=int, default=1)
        arguments = parser.parse_args(rest)
        generate(arguments.count, arguments.seed)
    for step in COMMANDS[name][1]:
        module = import_module(f".{step}", __package__)
        parser = argparse.ArgumentParser(
            prog=f"python -m training.embedded {step}", description=module.__doc__
        )
        module.add_arguments(parser)
        module.main(parser.parse_args([*rest, "--write"] if name == "all" and step == "evaluate" else rest))


if __name__ == "__main__":
    main(sys.argv[1:])
