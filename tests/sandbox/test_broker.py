"""`CALL_API`: endpoints of proxies in cells, without their keys."""

from __future__ import annotations

import asyncio
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm import MemoryLog, Proxy, fork_session, replay_session, resume_session
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import SandboxBroken
from lllm.proxies import BaseProxy
from lllm.sandbox.broker import Broker, Made, Unrecorded, again
from lllm.sandbox.jupyter import JupyterSession
from tests.replay.test_effects import cut

RAN: list[Any] = []


class Weather(BaseProxy, register=False):
    """Forecasts."""

    _proxy_path = "weather"

    @BaseProxy.endpoint(effect="pure")
    def daily(self, city: str, days: int = 1) -> dict[str, Any]:
        """The forecast for some days."""
        RAN.append(city)
        return {"city": city, "degrees": [21] * days}

    @BaseProxy.endpoint(effect="pure")
    def picture(self) -> bytes:
        """A picture of the sky."""
        return b"\x89PNG" + bytes(range(256))

    @BaseProxy.endpoint(effect="ask", approval=True)
    def order(self, thing: str) -> str:
        """Orders something."""
        RAN.append(thing)
        return f"ordered {thing}"

    @BaseProxy.endpoint(effect="pure")
    async def slow(self) -> str:
        """Takes its time."""
        RAN.append("slow begins")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            RAN.append("slow is cancelled")
            raise
        return "done"

    @BaseProxy.endpoint(effect="pure")
    def large(self) -> str:
        """More than a cell is given."""
        return "x" * (17 << 20)

    @BaseProxy.endpoint(effect="pure")
    def bad(self) -> str:
        """Fails."""
        raise ValueError("no weather today")


@pytest.fixture(autouse=True)
def clean() -> None:
    RAN.clear()


def notebook(**options: Any) -> JupyterSession:
    return JupyterSession(proxy=Proxy([Weather]), **options)


def cell(notebook: JupyterSession, code: str, seconds: float | None = None) -> str:
    return notebook.run_cell(notebook.append_code_cell(code), seconds).text


def test_answers_errors_and_what_is_not_there() -> None:
    with notebook() as nb:
        assert cell(nb, "CALL_API('weather.daily', {'city': 'Bern'})") == "{'city': 'Bern', 'degrees': [21]}"
        awaited = (
            "import asyncio\nawait asyncio.sleep(0)\nCALL_API('weather.daily', city='Ulm', days=2)['degrees']"
        )
        assert cell(nb, awaited) == "[21, 21]"
        assert (
            cell(nb, "picture = CALL_API('weather.picture')\ntype(picture).__name__, len(picture)")
            == "('bytes', 260)"
        )
        for code, said in {
            "CALL_API('weather.bad')": "APIError: ToolError: endpoint 'weather.bad' raised ValueError: no weather today",
            "CALL_API('weather.daily', {'town': 'Bern'})": 'unknown key "town"',
            "CALL_API('other.x')": "UnknownNameError: no endpoint named 'other.x'",
            "CALL_API(3)": "takes the address of an endpoint",
            "CALL_API('weather.large')": "AnswerTooLarge",
            "CALL_API('weather.order', thing='umbrella')": "EndpointDenied: 'weather.order' must be approved",
            "CALL_API('weather.daily', city=float('nan'))": "ValueError",
            "CALL_API('weather.daily', city='x' * (2 << 20))": "larger than 1 MiB",
        }.items():
            assert said in cell(nb, code), code
        assert cell(nb, "CALL_API('weather.daily', city='again')['city']") == "'again'", (
            "the connection still works"
        )
        assert RAN == ["Bern", "Ulm", "again"]


def test_a_cell_makes_only_so_many_and_only_while_it_runs() -> None:
    with notebook(limits={"calls": 3}) as nb:
        assert "TooManyCalls" in cell(nb, "for n in range(4): CALL_API('weather.daily', city=str(n))")
        assert RAN == ["0", "1", "2"]
        cell(
            nb,
            "import threading, time\ndef later():\n    time.sleep(0.5)\n    try: CALL_API('weather.daily', city='late')\n"
            "    except Exception as error: print(error)\nthread = threading.Thread(target=later); thread.start()",
        )
        assert "NotNow" in cell(nb, "thread.join()") + str(nb.get_cells()) or RAN == ["0", "1", "2", "late"]


@pytest.mark.parametrize("tier", ["namespace", "process"])
def test_in_every_tier_and_after_a_restart(tier: str) -> None:
    with notebook(tier=tier) as nb:
        assert cell(nb, "CALL_API('weather.daily', city='Bern')['city']") == "'Bern'"
        nb.restart()
        assert cell(nb, "CALL_API('weather.daily', city='Ulm')['city']") == "'Ulm'"


def test_nothing_of_a_key_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_KEY", "sk-canary-0123456789abcdef")
    with notebook() as nb:
        code = "import gc, os\nfound = [one for one in gc.get_objects() if isinstance(one, (dict, list))]\n"
        code += "words = [str(one) for one in found if len(one) < 50]\n"
        assert (
            cell(nb, code + "any('sk-' + 'canary' in one for one in words), 'WEATHER_KEY' in os.environ")
            == "(False, False)"
        )


RAW = r"""
import struct
CALL_API('weather.daily', city='first')
inner = dict(zip(CALL_API.__code__.co_freevars, (one.cell_contents for one in CALL_API.__closure__)))
def raw(data):
    number = struct.pack('>Q', next(inner['numbers']))
    inner['connection'].sendall(struct.pack('>I', 8 + len(data)) + number + data)
    return inner['answered'](number)
values = (b'NaN', b'1e999', b'-Infinity', b'"\\ud800"', b'1' * 5000, b'"\xff"', b'[' * 500 + b']' * 500,
          b'[' * 100 + b']' * 100, b'{"\\udfff": 1}', b'[' * 100_000)
frames = [b'{"address": "weather.daily", "params": {"city": ' + value + b'}}' for value in values]
frames += [b'{"address": "\\ud800", "params": {}}', b'{"address": "weather.daily", "params": {"\\ud800": 1}}', b'', b'[]',
           b'\xff\xfe{\x00}\x00']
[raw(frame)['error']['type'] for frame in frames], {*map(len, map(raw, frames))}
"""


def test_frames_that_no_client_makes_are_refused_and_recorded() -> None:
    store = MemoryLog()

    def program() -> list[str]:
        with lllm.record("frames", store=store), notebook() as nb:
            return [cell(nb, RAW), cell(nb, "CALL_API('weather.daily', city='last')['city']")]

    refused, last = program()
    assert refused.count("BadRequest") == 15
    assert "{1}" in refused
    assert last == "'last'"
    assert RAN == ["first", "last"]
    assert replay_session(store.sessions(1)[0].id, store=store, entry=program).verified


def test_others_have_their_turn_while_requests_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, turns = 0, set()
    answer = Broker._answer

    async def seen(self: Broker, data: bytes) -> Any:
        turns.add(turn)
        return await answer(self, data)

    monkeypatch.setattr(Broker, "_answer", seen)
    request = struct.pack(">IQ", 8, 1)

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def main() -> None:
        answered = asyncio.Event()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(request * 500)
            for _ in range(500):
                await reader.readexactly(struct.unpack(">I", await reader.readexactly(4))[0])
            answered.set()
            writer.close()

        server = await asyncio.start_unix_server(connected, tmp_path / "api")
        broker = Broker(tmp_path, 10)
        other = asyncio.get_running_loop().create_task(others())
        await broker.connect()
        await answered.wait()
        assert len(turns) > 400
        other.cancel()
        await broker.close()
        server.close()
        await asyncio.sleep(0.05)

    asyncio.run(main())


def test_a_child_process_cannot_call() -> None:
    with notebook() as nb:
        code = (
            "import os\nread, write = os.pipe()\nif os.fork() == 0:\n    try: CALL_API('weather.daily', city='child')\n"
            "    except Exception as error: os.write(write, str(error).encode())\n    os._exit(0)\nos.read(read, 500).decode()"
        )
        assert "in the process of the notebook alone" in cell(nb, code)
    assert RAN == []


def test_an_interrupted_call_is_cancelled_and_its_answer_is_nobodys() -> None:
    with notebook() as nb:
        cell(nb, "1")
        task = nb.append_code_cell("CALL_API('weather.slow')")

        async def main() -> str:
            running = asyncio.create_task(nb.arun_cell(task))
            while not RAN:
                await asyncio.sleep(0.01)
            nb.interrupt()
            return (await running).status

        assert lllm.run(main()) == "interrupted"
        assert cell(nb, "CALL_API('weather.daily', city='Bern')['city']") == "'Bern'"
        assert RAN == ["slow begins", "slow is cancelled", "Bern"]


# --- the record -------------------------------------------------------------------------------------------------------


def program(store: MemoryLog, seen: list[str], approve: Any = None) -> Callable[[], None]:
    def main() -> None:
        with (
            lllm.record("weather", store=store, approve=approve)
            if approve
            else lllm.record("weather", store=store),
            notebook() as nb,
        ):
            seen.append(cell(nb, "city = 'Bern'\nfirst = CALL_API('weather.daily', city=city)"))
            seen.append(
                cell(nb, "second = CALL_API('weather.daily', city='Ulm')\nfirst['city'], second['city']")
            )

    return main


def events(store: MemoryLog, session: str) -> list[dict[str, Any]]:
    return [open_event(body) for body in store.read(session)]


def test_each_call_is_an_event_of_its_cell_and_a_replay_makes_none() -> None:
    store, seen = MemoryLog(), list[str]()
    program(store, seen)()
    session = store.sessions(1)[0].id
    asked = [event["data"] for event in events(store, session) if event["kind"] == ev.EFFECT_REQUESTED]
    cells = {data["n"] for data in asked if data["kind"] == "cell"}
    calls = [data for data in asked if data["kind"] == "proxy"]
    assert [data["request"]["arguments"] for data in calls] == [{"city": "Bern"}, {"city": "Ulm"}]
    assert all(data["inside"] in cells for data in calls)
    RAN.clear()
    again: list[str] = []
    report = replay_session(session, store=store, entry=program(store, again))
    assert report.verified, report
    assert (again, RAN) == (seen, [])


def test_cut_off_anywhere_no_call_is_made_twice() -> None:
    whole, seen = MemoryLog(), list[str]()
    program(whole, seen)()
    session = whole.sessions(1)[0].id
    ends = [event["seq"] for event in events(whole, session) if event["kind"] == ev.EFFECT_RETURNED]
    for count in ends:
        store, RAN[:] = cut(whole, session, count), []
        done = [event["data"]["n"] for event in events(store, session) if event["kind"] == ev.EFFECT_RETURNED]
        known = [
            event["data"]["request"]["arguments"]["city"]
            for event in events(store, session)
            if event["kind"] == ev.EFFECT_REQUESTED
            and event["data"]["kind"] == "proxy"
            and event["data"]["n"] in done
        ]
        again: list[str] = []
        resume_session(session, store=store, entry=program(store, again))
        assert [text.split("\n")[-1] for text in again] == seen
        assert sorted([*known, *RAN]) == ["Bern", "Ulm"], "an answer that is known is not asked for"


def test_a_cell_that_asks_for_something_else_when_it_runs_again() -> None:
    whole, seen = MemoryLog(), list[str]()
    program(whole, seen)()
    session = whole.sessions(1)[0].id
    made = Made("weather.daily", {"city": "Bern"}, {"value": 1})
    perform = again([made])
    assert asyncio.run(perform("weather.daily", {"city": "Bern"})).answer == {"value": 1}  # type: ignore[arg-type]
    with pytest.raises(Unrecorded, match="was not recorded"):
        asyncio.run(perform("weather.daily", {"city": "Bern"}))  # type: ignore[arg-type]

    def random(store: MemoryLog) -> Callable[[], None]:
        def main() -> None:
            with lllm.record("random", store=store), notebook() as nb:
                cell(nb, "import os\nx = CALL_API('weather.daily', city=os.urandom(8).hex())")
                cell(nb, "2")

        return main

    store = MemoryLog()
    random(store)()
    session = store.sessions(1)[0].id
    second = [event["seq"] for event in events(store, session) if event["kind"] == ev.EFFECT_REQUESTED][2]
    with pytest.raises(SandboxBroken, match="was run again, and asked for something else"):
        resume_session(session, store=cut(store, session, second + 1), entry=random(store))


def test_an_approval_takes_none_of_the_cells_time() -> None:
    async def main() -> tuple[str, str]:
        with lllm.record("order", store=MemoryLog()) as session:
            asked = asyncio.Event()

            async def approve(call: Any) -> bool:
                asked.set()
                await asyncio.sleep(2.5)
                return True

            session.approve = approve
            nb = notebook()
            await nb.arun_cell(nb.append_code_cell("1"))
            result = await nb.arun_cell(nb.append_code_cell("CALL_API('weather.order', thing='umbrella')"), 2)
            await nb.aclose()
        return result.status, result.text

    assert lllm.run(main()) == ("ok", "'ordered umbrella'")


@pytest.mark.parametrize("warm", [0, 1])
def test_in_yaml(warm: int, tmp_path: Path) -> None:
    from lllm import ScriptedBackend, build_agent
    from lllm.registry import registry

    with registry.scope() as scope:
        scope.add("proxy", "weather", Weather)
        config = {
            "log_type": "none",
            "sandbox": {"dir": str(tmp_path), "warm": warm},
            "agent_configs": {
                "coder": {
                    "model": "scripted",
                    "sandbox": "jupyter",
                    "tools": [],
                    "activate_proxies": ["weather"],
                }
            },
        }
        built = build_agent(
            config, model=ScriptedBackend([calling("CALL_API('weather.daily', city='Bern')"), "done"])
        )
        agent = built.agents["coder"]
        python = next(one for one in agent.tools if one.name == "python")
        assert "weather.daily" in python.description
        assert agent("What is the weather?").content == "done"
    assert RAN == ["Bern"]


def calling(code: str) -> dict[str, Any]:
    import json

    return {
        "tool_calls": [
            {
                "id": "t1",
                "type": "function",
                "function": {"name": "python", "arguments": json.dumps({"code": code})},
            }
        ]
    }


def test_a_kernel_that_is_killed_gets_a_new_connection() -> None:
    with notebook() as nb:
        pid = int(cell(nb, "import os\nos.getpid()"))
        assert pid > 0
        assert "died" in cell(nb, f"import os, signal\nos.kill(os.getpid(), {int(signal.SIGKILL)})")
        assert cell(nb, "CALL_API('weather.daily', city='Bern')['city']") == "'Bern'"


def test_a_fork_makes_only_the_calls_that_are_new() -> None:
    """A cell runs again, because what was before it differs; what it asked already, it is told."""
    store = MemoryLog()

    def entry(days: int) -> Callable[[], str]:
        def main() -> str:
            with lllm.record("n", store=store), notebook() as nb:
                cell(nb, f"days = {days}")
                return cell(
                    nb,
                    "[CALL_API('weather.daily', city='Bern'), CALL_API('weather.daily', city='Ulm', days=days)]",
                )

        return main

    came = entry(1)()
    assert RAN == ["Bern", "Ulm"]
    RAN.clear()
    forked = fork_session(store.sessions(1)[0].id, store=store, entry=entry(2))
    assert RAN == ["Ulm"]
    assert forked.result == came.replace("'Ulm', 'degrees': [21]", "'Ulm', 'degrees': [21, 21]")
    RAN.clear()
    assert replay_session(forked.session, store=store, entry=entry(2)).verified
    assert RAN == []
