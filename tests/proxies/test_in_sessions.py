"""A YAML system with a proxy over HTTP and a plain Python one: what its sessions say of them, and how they run again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, AgentBase, BaseProxy, FunctionCall, MemoryLog, ScriptedBackend, build_agent
from lllm.proxies import Header
from lllm.registry import registry
from lllm.replay import fork_session, replay_session, resume_session
from tests.proxies.logged import events
from tests.servers.api import Api

SECRET = "a-key-of-the-shop-98765"
DONE: list[str] = []

YAML = """
name: errands
agent_type: errands
activate_proxies: [shop, Notes]
cutoff_date: 2025-01-01
proxy_options:
  shop:
    base_url: {url}
    env: {{SHOP_KEY: SHOP_KEY_OF_TESTS}}
agent_configs:
  buyer:
    model_name: script/x
    tools: [shop.item, Notes.add]
"""


@pytest.fixture(autouse=True)
def project(server: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "errands.yaml").write_text(YAML.format(url=server.url))
    (tmp_path / "lllm.toml").write_text('[run]\ndefault = "errands.yaml"\n')
    (tmp_path / ".env").write_text(f"SHOP_KEY_OF_TESTS={SECRET}\n")
    DONE.clear()
    with registry.scope():
        registry.add("proxy", "shop", shop_of("What it costs."))
        registry.add("proxy", "Notes", Notes)
        registry.add("agent", "errands", Errands)
        registry.add("backend", "script", scripted)
        yield


def shop_of(description: str) -> type[BaseProxy]:
    class Shop(BaseProxy, register=False):
        _proxy_path = "shop"
        base_url = "http://nowhere.invalid"
        auth = Header("X-Key", env="SHOP_KEY")

        @BaseProxy.endpoint(endpoint="items/{name}", description=description)
        def item(self, name: str) -> None: ...

        @BaseProxy.endpoint(endpoint="stock", dt_cutoff="rows.date")
        def stock(self) -> None:
            """What is there."""

    return Shop


class Notes(BaseProxy, register=False):
    """Notes."""

    @BaseProxy.endpoint(effect="never")
    def add(self, text: str) -> str:
        """Writes a note."""
        DONE.append(text)
        return f"noted {text}"


class Errands(AgentBase, register=False):
    agent_type = "errands"

    def call(self, task: str, **more: Any) -> Any:
        rows = self.proxy("shop.stock")["rows"]
        answer = self.agents["buyer"].call(f"{task}: {rows}")
        return f"{answer.content}, {self.proxy('Notes.add', text='the end')}"


def scripted(**options: Any) -> ScriptedBackend:
    def reply(request: Any) -> Any:
        if request.messages[-1].role == "tool":
            return f"bought: {request.messages[-1].text}"
        return [
            FunctionCall("t1", "shop__item", '{"name": "tea"}'),
            FunctionCall("t2", "Notes__add", '{"text": "tea"}'),
        ]

    return ScriptedBackend(reply)


def run(server: Api, store: MemoryLog) -> tuple[str, Any]:
    async def answer(request: Any) -> Any:
        from aiohttp import web

        rows = [{"date": "2024-05-05", "n": 1}, {"date": "2026-05-05", "n": 2}]
        return web.json_response({"rows": rows} if request.path == "/stock" else {"price": 3})

    server.answer = answer
    system = build_agent("errands.yaml", log_base=store)
    result = system("buy")
    return system.session.id, result


def test_code_and_tools_use_the_same_proxies(server: Api) -> None:
    store = MemoryLog()
    session, result = run(server, store)
    assert result == "bought: noted tea, noted the end"
    assert [asked.path for asked in server.asked] == ["/stock", "/items/tea"]
    assert {asked.headers["X-Key"] for asked in server.asked} == {SECRET}
    assert DONE == ["tea", "the end"]
    text = "".join(line if isinstance(line, str) else line.decode() for line in store.read(session))
    assert SECRET not in text
    assert "2026-05-05" not in text  # after the cutoff


def test_the_log_says_which_endpoints_there_were(server: Api) -> None:
    store = MemoryLog()
    session, _ = run(server, store)
    found = events(store, session)
    known = found[0]["data"]["proxy_endpoints"]
    assert {proxy: list(each) for proxy, each in known.items()} == {
        "shop": ["item", "stock"],
        "Notes": ["add"],
    }
    (called,) = [event["data"] for event in found if event["kind"] == "CallStarted"]
    assert called["endpoints"] == {"shop__item": "shop.item", "Notes__add": "Notes.add"}
    assert called["endpoints"].keys() <= called["tools"].keys()
    registry.add("proxy", "shop", shop_of("What it is worth."), overwrite=True)
    other, _ = run(server, store)
    now = events(store, other)[0]["data"]["proxy_endpoints"]
    assert known["shop"]["item"] != now["shop"]["item"]
    assert (known["shop"]["stock"], known["Notes"]) == (now["shop"]["stock"], now["Notes"])


def test_a_replay_asks_nobody(server: Api) -> None:
    store = MemoryLog()
    session, _ = run(server, store)
    asked, done = len(server.asked), list(DONE)
    assert replay_session(session, store=store).verified
    assert (len(server.asked), DONE) == (asked, done)


def test_a_replay_sees_another_description(server: Api) -> None:
    store = MemoryLog()
    session, _ = run(server, store)
    registry.add("proxy", "shop", shop_of("What it is worth."), overwrite=True)
    report = replay_session(session, store=store)
    assert not report.verified
    assert "tool schema" in str(report.divergence)


@pytest.mark.parametrize(
    ("after", "asked_again", "noted_again"),
    [("EffectReturned", ["/items/tea"], ["tea", "the end"]), ("CallEnded", [], ["the end"])],
)
def test_a_resumed_session_does_nothing_twice(
    after: str, asked_again: list[str], noted_again: list[str], server: Api
) -> None:
    store = MemoryLog()
    session, result = run(server, store)
    kinds = [event["kind"] for event in events(store, session)]
    asked = len(server.asked)
    DONE.clear()
    cut = MemoryLog()
    cut._sessions[session] = store._sessions[session][: kinds.index(after) + 1]
    cut._blobs.update(store._blobs)
    assert resume_session(session, store=cut).result == result
    assert [one.path for one in server.asked[asked:]] == asked_again
    assert noted_again == DONE


def test_a_fork_calls_what_has_changed(server: Api) -> None:
    store = MemoryLog()
    session, _ = run(server, store)
    asked = len(server.asked)
    fork = fork_session(session, store=store, task="sell")
    assert fork.result == "bought: noted tea, noted the end"
    assert [one.path for one in server.asked[asked:]] in ([], ["/items/tea"])


def test_agents_that_code_makes_have_the_proxies_of_its_system(server: Api) -> None:
    store = MemoryLog()
    made: list[Any] = []

    class Maker(AgentBase, register=False):
        agent_type = "maker"

        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            made.append(Agent("built", scripted(), tools=["shop.stock"]).tools[0])

        async def call(self, task: str, **more: Any) -> str:
            helper = Agent("helper", scripted(), tools=["Notes.add"], activate_proxies=["shop", "Notes"])
            made.extend(helper.tools)
            made.append(Agent("other", scripted(), tools=["shop.*"]).tools[1])
            return "done"

    registry.add("agent", "maker", Maker)
    system = build_agent("errands.yaml", agent_name="maker", log_base=store)
    assert system("x") == "done"
    held = system.proxy
    stock, note = held.tool("shop.stock"), held.tool("Notes.add")
    assert [tool.call for tool in made] == [stock.call, note.call, stock.call]
    outside = Agent("outside", scripted(), tools=["shop.stock"]).tools[0]
    assert outside.call is not stock.call


def test_two_systems_keep_their_keys_apart(server: Api, tmp_path: Path) -> None:
    run(server, MemoryLog())
    (tmp_path / ".env").write_text(f"SHOP_KEY_OF_TESTS={SECRET}\nSHOP_KEY=the-other-key-4321\n")
    text = (tmp_path / "errands.yaml").read_text().replace("    env: {SHOP_KEY: SHOP_KEY_OF_TESTS}\n", "")
    (tmp_path / "other.yaml").write_text(text)
    first, second = build_agent("errands.yaml"), build_agent("other.yaml")
    first.proxy("shop.stock")
    second.proxy("shop.stock")
    first.proxy("shop.stock")
    assert [one.headers["X-Key"] for one in server.asked[-3:]] == [SECRET, "the-other-key-4321", SECRET]
