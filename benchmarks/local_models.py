"""Local models: what our backends cost beyond the bare libraries, and what batching and prefix reuse save.

    python -m benchmarks.local_models             # all of it, a few minutes
    python -m benchmarks.local_models --quick
    python -m benchmarks.local_models overhead batching prefix memory

All on the embedded model (3.5M parameters), one thread, this CPU. Contenders take turns within one run. Overhead is the
median of paired differences: ours and the bare library's reply to the same request, one right after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lllm.models.message import FunctionCall, Message
from lllm.ports import Request

TOKENS = 64
# the small model has little to say by itself: on this it goes on until it is stopped
PROMPT = "9" * 80
ROOT = Path(__file__).resolve().parent.parent
CALCULATE = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Evaluates an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}
GREEDY = {"temperature": 0.0, "max_tokens": TOKENS}


def forms() -> Any:
    """The embedded model as files: `.gguf_f32`, `.folder` and so on."""
    from training.embedded.forms import make

    folder = Path(tempfile.gettempdir()) / f"lllm-bench-{os.getuid()}"
    return make(folder)


def request(model: str, prompt: str = PROMPT, *, stream: bool = False, **more: Any) -> Request:
    return Request(model, (Message("user", prompt),), sampling={**GREEDY, **more}, stream=stream)


async def reply(backend: Any, wanted: Request) -> Any:
    last = None
    async for delta in backend.stream(wanted):
        last = delta
    assert last is not None
    return last.reply


# --- overhead ---------------------------------------------------------------------------------------------------------


def bare_xllamacpp(path: Path) -> tuple[Callable[[], int], Callable[[], int]]:
    import xllamacpp

    given = xllamacpp.CommonParams()
    given.model.path = str(path)
    given.n_ctx, given.n_parallel = 1024 * 4, 4
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1
    given.warmup, given.verbosity = False, -1
    server = xllamacpp.Server(given)
    body = {"messages": [{"role": "user", "content": PROMPT}], **GREEDY}

    def whole() -> int:
        return int(server.handle_chat_completions(body)["usage"]["completion_tokens"])

    def streamed() -> int:
        chunks: list[Any] = []
        server.handle_chat_completions({**body, "stream": True}, chunks.append)
        return TOKENS

    return whole, streamed


def bare_llama_cpp_python(path: Path) -> tuple[Callable[[], int], Callable[[], int]]:
    from llama_cpp import Llama

    llama = Llama(str(path), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
    body = {"messages": [{"role": "user", "content": PROMPT}], "temperature": 0.0, "max_tokens": TOKENS}

    def whole() -> int:
        return int(llama.create_chat_completion(**body)["usage"]["completion_tokens"])

    def streamed() -> int:
        return sum(1 for _ in llama.create_chat_completion(**body, stream=True)) and TOKENS

    return whole, streamed


def bare_transformers(folder: Path) -> tuple[Callable[[], int], Callable[[], int]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    messages = [{"role": "user", "content": PROMPT}]

    def inputs() -> Any:
        return tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )

    def whole() -> int:
        given = inputs()
        with torch.inference_mode():
            out = model.generate(**given, max_new_tokens=TOKENS, do_sample=False)
        new = out[0, given["input_ids"].shape[1] :]
        tokenizer.decode(new, skip_special_tokens=True)
        return len(new)

    def streamed() -> int:
        given = inputs()
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)

        def work() -> None:
            with torch.inference_mode():
                model.generate(**given, max_new_tokens=TOKENS, do_sample=False, streamer=streamer)

        thread = threading.Thread(target=work)
        thread.start()
        for _ in streamer:
            pass
        thread.join()
        return TOKENS

    return whole, streamed


def contenders(files: Any) -> dict[str, tuple[Any, str, Callable[[], Any]]]:
    """Name -> our backend (prefixes not reused, as the bare ones see the same prompt each time), model, the bare library."""
    from lllm.backends.llama_cpp import LlamaCppBackend
    from lllm.backends.transformers import TransformersBackend

    q8 = files.gguf_q8
    return {
        "llama_cpp (xllamacpp)": (
            LlamaCppBackend(engine="xllamacpp", context=1024, threads=1), str(q8), lambda: bare_xllamacpp(q8)
        ),
        "llama_cpp (llama-cpp-python)": (
            LlamaCppBackend(engine="llama-cpp-python", context=1024, threads=1), str(q8),
            lambda: bare_llama_cpp_python(q8),
        ),
        "transformers": (
            TransformersBackend(device="cpu", dtype="float32", threads=1), str(files.folder),
            lambda: bare_transformers(files.folder),
        ),
    }  # fmt: skip


async def overhead(files: Any, rounds: int) -> None:
    print(f"Overhead on a reply of {TOKENS} tokens, median of {rounds} pairs (goal: 3% or less)")
    print(f"{'backend':<32}{'':<10}{'bare ms':>9}{'ours ms':>9}{'overhead':>10}{'us/token':>10}")
    for name, (backend, model, bare) in contenders(files).items():
        for kind, plain in zip(("whole", "streamed"), bare(), strict=True):
            wanted = request(model, stream=kind == "streamed")
            got = await reply(backend, wanted)
            assert got.usage.completion == TOKENS == plain(), (name, got.usage)
            pairs = []
            for number in range(rounds):
                first = number % 2  # whoever is second finds a warmer machine
                times = [0.0, 0.0]
                for who in (first, 1 - first):
                    start = time.perf_counter()
                    if who == 0:
                        plain()
                    else:
                        await reply(backend, wanted)
                    times[who] = (time.perf_counter() - start) * 1000
                pairs.append(times)
            plain_ms = statistics.median(one for one, _ in pairs)
            ours_ms = statistics.median(two for _, two in pairs)
            more = statistics.median(two - one for one, two in pairs)
            print(
                f"{name:<32}{kind:<10}{plain_ms:>9.2f}{ours_ms:>9.2f}{100 * more / plain_ms:>9.1f}%"
                f"{1000 * more / TOKENS:>10.1f}"
            )
        await backend.aclose()


# --- batching ---------------------------------------------------------------------------------------------------------


async def batching(files: Any, rounds: int, at_once: int = 16) -> None:
    from lllm.backends.llama_cpp import LlamaCppBackend
    from lllm.backends.transformers import TransformersBackend

    backends = {
        "transformers": (TransformersBackend(device="cpu", dtype="float32", threads=1), str(files.folder)),
        "llama_cpp (xllamacpp, 16 slots)": (
            LlamaCppBackend(engine="xllamacpp", context=1024, threads=1, slots=at_once), str(files.gguf_q8)
        ),
    }  # fmt: skip
    print(
        f"\n{at_once} calls at once against {at_once} one after another, {TOKENS} tokens each (goal: 6 times on transformers)"
    )
    print(f"{'backend':<36}{'one by one':>12}{'at once':>10}{'times':>8}   tokens/s, median of {rounds}")
    for name, (backend, model) in backends.items():
        for stream in (False, True):
            asked = [request(model, f"{n}" * 40, stream=stream) for n in range(at_once)]
            tokens = sum(
                [one.usage.completion for one in await asyncio.gather(*(reply(backend, a) for a in asked))]
            )
            alone, together = [], []
            for _ in range(rounds):
                start = time.perf_counter()
                for one in asked:
                    await reply(backend, one)
                alone.append(tokens / (time.perf_counter() - start))
                start = time.perf_counter()
                await asyncio.gather(*(reply(backend, one) for one in asked))
                together.append(tokens / (time.perf_counter() - start))
            ratio = statistics.median(b / a for a, b in zip(alone, together, strict=True))
            label = f"{name}{', streamed' if stream else ''}"
            print(
                f"{label:<36}{statistics.median(alone):>12.0f}{statistics.median(together):>10.0f}{ratio:>8.1f}"
            )
        await backend.aclose()
    library(files, rounds, at_once)


def library(files: Any, rounds: int, at_once: int) -> None:
    """The library's own continuous batching, and one padded batch, of the same prompts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, ContinuousBatchingConfig, GenerationConfig

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(files.folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(files.folder, dtype=torch.float32).eval()
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": f"{n}" * 40}], add_generation_prompt=True, tokenize=False
        )
        for n in range(at_once)
    ]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    config = GenerationConfig(
        max_new_tokens=TOKENS, do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=0
    )

    def padded() -> int:
        given = tokenizer(texts, return_tensors="pt", padding=True)
        with torch.inference_mode():
            out = model.generate(**given, generation_config=config)
        return int((out[:, given["input_ids"].shape[1] :] != 0).sum())

    def continuous() -> int:
        out = model.generate_batch(
            ids, generation_config=config, continuous_batching_config=ContinuousBatchingConfig(max_memory_percent=0.05),
            progress_bar=False,
        )  # fmt: skip
        return sum(len(one.generated_tokens) for one in out.values())

    for name, work in (
        ("generate(), one padded batch", padded),
        ("generate_batch(), continuous", continuous),
    ):
        try:
            work()
            speeds = []
            for _ in range(rounds):
                start = time.perf_counter()
                tokens = work()
                speeds.append(tokens / (time.perf_counter() - start))
            print(f"{'bare ' + name:<36}{'':>12}{statistics.median(speeds):>10.0f}")
        except Exception as error:
            print(f"{'bare ' + name:<36}  failed: {type(error).__name__}: {str(error)[:80]}")


# --- prefix reuse -----------------------------------------------------------------------------------------------------


def turns(number: int) -> Iterable[tuple[Message, ...]]:
    """The dialogs of an agent call with so many tool rounds, one after another: each begins with the one before."""
    messages: list[Message] = [
        Message(
            "system",
            "You are a helpful assistant. Use the calculate tool for arithmetic and report its result.",
        ),
        Message("user", "What is 17 times 23, and what then?"),
    ]
    for turn in range(number):
        yield tuple(messages)
        call = FunctionCall(f"call_{turn}", "calculate", json.dumps({"expression": f"{turn} + {turn * 7}"}))
        messages += [
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", str(turn * 8), tool_call_id=call.id),
        ]


async def prefix(files: Any, rounds: int) -> None:
    from lllm.backends.llama_cpp import LlamaCppBackend
    from lllm.backends.transformers import TransformersBackend

    def transformers(**more: Any) -> Any:
        return TransformersBackend(device="cpu", dtype="float32", threads=1, **more), str(files.folder)

    def llama(engine: str) -> Any:
        return LlamaCppBackend(engine=engine, context=1024, threads=1), str(files.gguf_q8)

    print("\nTen turns of one tool call: prompt tokens computed, turn by turn (goal: only what is new)")
    print(f"{'backend':<34}{'ms':>7}  computed per turn")
    makers: dict[str, Callable[[], Any]] = {
        "transformers": transformers,
        "transformers, no reuse": lambda: transformers(prefix_tokens=0),
        "llama_cpp (xllamacpp)": lambda: llama("xllamacpp"),
        "llama_cpp (llama-cpp-python)": lambda: llama("llama-cpp-python"),
    }
    for name, make in makers.items():
        times, computed = [], []
        for _ in range(rounds):
            backend, model = make()
            await reply(backend, request(model, "warm up", max_tokens=2))
            computed = []
            start = time.perf_counter()
            for messages in turns(10):
                wanted = Request(model, messages, (CALCULATE,), {"temperature": 0.0, "max_tokens": 8})
                usage = (await reply(backend, wanted)).usage
                computed.append(usage.prompt - usage.cached)
            times.append((time.perf_counter() - start) * 1000)
            await backend.aclose()
        print(
            f"{name:<34}{statistics.median(times):>7.0f}  {' '.join(map(str, computed))} (sum {sum(computed)})"
        )


# --- memory -----------------------------------------------------------------------------------------------------------

BARE: Mapping[str, str] = {
    "llama_cpp (xllamacpp)": "bare_xllamacpp(files.gguf_q8)",
    "llama_cpp (llama-cpp-python)": "bare_llama_cpp_python(files.gguf_q8)",
    "transformers": "bare_transformers(files.folder)",
}


def memory(files: Any) -> None:
    print("\nPeak memory of a process that gives ten replies (resident, MB)")
    print(f"{'backend':<34}{'bare':>8}{'ours':>8}{'more':>8}")
    for name, bare in BARE.items():
        plain = _peak(f"w, s = {bare}\nfor _ in range(10): w()")
        ours = _peak(
            f"import asyncio\nbackend, model, _ = contenders(files)[{name!r}]\n"
            "for _ in range(10): asyncio.run(reply(backend, request(model)))"
        )
        print(f"{name:<34}{plain:>8.0f}{ours:>8.0f}{ours - plain:>8.0f}")


def _peak(program: str) -> float:
    start = f"from benchmarks.local_models import *\nfrom benchmarks.local_models import forms\nfiles = forms()\n{program}\n"
    # what getrusage says is the parent's peak, where that was higher
    end = "print(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    done = subprocess.run([sys.executable, "-c", start + end], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


PARTS = ("overhead", "batching", "prefix", "memory")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"which of {', '.join(PARTS)}; all by default"
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rounds = 6 if options.quick else options.rounds
    parts: dict[str, Callable[[], Awaitable[None] | None]] = {
        "overhead": lambda: overhead(files, rounds),
        "batching": lambda: batching(files, max(2, rounds // 8)),
        "prefix": lambda: prefix(files, max(1, rounds // 10)),
        "memory": lambda: memory(files),
    }
    files = forms()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for part in options.parts or PARTS:
        done = parts[part]()
        if done is not None:
            await done
        gc.collect()
    print(
        f"\npeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )


if __name__ == "__main__":
    asyncio.run(main())
