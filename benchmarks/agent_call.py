"""What one agent call costs: CPU microseconds per call beside a hand-written `aiohttp` loop and a hand-written `openai`
loop against the same loopback server, in the same run, interleaved.

    python -m benchmarks.agent_call            # the whole table, about two minutes
    python -m benchmarks.agent_call --quick

All contenders do the same: a system prompt and a question, K tool rounds with an async tool, a final answer in a tag. Ours
does it with every step durable in SQLite, with the log off, and, without any transport, on the scripted backend.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks._server import mock_server

SYSTEM = "You are a helpful assistant. Use the calculate tool for arithmetic and report its result."
TASK = "What is 17 times 23?\n\nUse the tools that you have. Give the final answer inside <answer> tags."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "calculate",
            "description": "Evaluates an arithmetic expression.",
            "parameters": {
                "type": "object",
                "properties": {"expression": {"type": "string"}},
                "required": ["expression"],
                "additionalProperties": False,
            },
        },
    }
]
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
One = Callable[[], Awaitable[Any]]


async def calculate(expression: str) -> str:
    """Evaluates an arithmetic expression."""
    left, _, rest = expression.partition("*")
    return str(int(left) * int(rest.split("+")[0]))


async def aiohttp_loop(session: Any, url: str) -> str:
    """The loop that a careful person writes by hand."""
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TASK}]
    while True:
        body = {"model": "mock", "messages": messages, "tools": TOOLS}
        async with session.post(f"{url}/chat/completions", json=body) as response:
            response.raise_for_status()
            message = (await response.json())["choices"][0]["message"]
        messages.append(message)
        if not message.get("tool_calls"):
            found = ANSWER.search(message["content"])
            assert found is not None
            return found.group(1)
        for call in message["tool_calls"]:
            result = await calculate(**json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


async def openai_loop(client: Any) -> str:
    """The same with the official client."""
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TASK}]
    while True:
        reply = await client.chat.completions.create(model="mock", messages=messages, tools=TOOLS)
        message = reply.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            found = ANSWER.search(message.content)
            assert found is not None
            return found.group(1)
        for call in message.tool_calls:
            result = await calculate(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def our_call(backend: Any, store: Any) -> One:
    """One agent call of ours in a session of its own."""
    from lllm.llm.agent import Agent
    from lllm.models.function import tool
    from lllm.models.prompt import Prompt

    prompt = Prompt(
        "bench/task",
        "{task}\n\nUse the tools that you have. Give the final answer inside <answer> tags.",
        required_xml_tags=("answer",),
    )
    agent = Agent("bench", backend, SYSTEM, tools=[tool(calculate)], max_interrupt_times=None, store=store)

    async def one() -> str:
        reply = await agent.acall(prompt, {"task": "What is 17 times 23?"})
        answer: str = reply.parsed["xml_tags"]["answer"][0]
        return answer

    return one


def scripted(rounds: int) -> Any:
    """The server's answers without a server."""
    from lllm.backends.scripted import ScriptedBackend
    from lllm.models.message import FunctionCall

    def answer(request: Any) -> Any:
        done = sum(1 for message in request.messages if message.role == "tool")
        if done < rounds:
            return FunctionCall(f"call_{done}", "calculate", json.dumps({"expression": f"17 * 23 + {done}"}))
        return "<answer>391</answer>"

    return ScriptedBackend(answer)


async def cpu(one: One, calls: int) -> float:
    """CPU microseconds of this process per call, of sequential calls."""
    start = time.process_time()
    for _ in range(calls):
        assert await one() == "391"
    return (time.process_time() - start) / calls * 1e6


async def sequential(rounds: int, repeats: int, calls: int, folder: Path) -> dict[str, float]:
    import aiohttp
    import openai

    from lllm.backends.openai import OpenAIBackend
    from lllm.log import NoLog, SQLiteLog

    with mock_server(rounds) as url:
        backend = OpenAIBackend(base_url=url, api_key="none")
        client = openai.AsyncOpenAI(base_url=url, api_key="none")
        async with aiohttp.ClientSession() as session:
            contenders: dict[str, One] = {
                "aiohttp by hand": lambda: aiohttp_loop(session, url),
                "openai by hand": lambda: openai_loop(client),
                "lllm, SQLite": our_call(backend, SQLiteLog(folder / f"k{rounds}.db")),
                "lllm, log off": our_call(backend, NoLog()),
                "lllm scripted, SQLite": our_call(scripted(rounds), SQLiteLog(folder / f"s{rounds}.db")),
                "lllm scripted, log off": our_call(scripted(rounds), NoLog()),
            }
            samples: dict[str, list[float]] = {name: [] for name in contenders}
            for one in contenders.values():
                await cpu(one, 5)
            for _ in range(repeats):
                for name, one in contenders.items():
                    samples[name].append(await cpu(one, calls))
        await backend.aclose()
        await client.close()
    return {name: statistics.median(values) for name, values in samples.items()}


async def together(calls: int, folder: Path, openai_calls: int) -> dict[str, float]:
    """Calls per second, `calls` at once, K=1, 50 ms latency, each with a connection of its own."""
    import aiohttp
    import openai

    from lllm.backends.openai import OpenAIBackend
    from lllm.log import SQLiteLog

    rates: dict[str, float] = {}

    async def rate(one: One, count: int) -> float:
        await one()  # what is opened and imported once is not counted, for nobody
        start = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        return count / (time.perf_counter() - start)

    with mock_server(1, 0.05) as url:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            rates["aiohttp by hand"] = await rate(lambda: aiohttp_loop(session, url), calls)
        backend = OpenAIBackend(base_url=url, api_key="none")
        one = our_call(backend, SQLiteLog(folder / "together.db"))
        rates["lllm, SQLite"] = await rate(one, calls)
        await backend.aclose()
        client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=5, timeout=300)
        rates["openai by hand"] = await rate(lambda: openai_loop(client), openai_calls)
        await client.close()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    options = parser.parse_args()
    repeats, calls = (3, 20) if options.quick else (9, 60)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows: dict[int, dict[str, float]] = {}
        for rounds in (0, 1, 5):
            rows[rounds] = asyncio.run(sequential(rounds, repeats, calls, folder))
        print("CPU microseconds per agent call (ratio to aiohttp by hand), median of", repeats)
        print(f"{'':26}" + "".join(f"{f'K={k}':>18}" for k in rows))
        for contender in rows[0]:
            cells = [
                f"{row[contender]:9.0f} ({row[contender] / row['aiohttp by hand']:5.2f})"
                for row in rows.values()
            ]
            print(f"{contender:26}" + "".join(f"{cell:>18}" for cell in cells))
        rates = asyncio.run(together(1000, folder, 300 if options.quick else 1000))
        print("\nAgent calls per second, 1,000 at once, 50 ms latency, K=1, one process")
        for contender, value in rates.items():
            print(f"{contender:26}{value:10.0f} ({value / rates['openai by hand']:.1f} times openai by hand)")


if __name__ == "__main__":
    main()
