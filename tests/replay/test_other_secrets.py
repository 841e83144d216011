"""A replay's verdict, what a resumption does again and what a fork asks do not depend on the secrets of the machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, Prompt, build_agent, load_config
from lllm.backends.scripted import ScriptedBackend
from lllm.cli import main
from lllm.core.canonical import decode
from lllm.llm.sessions import arecord
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.ports import Request
from lllm.replay import fork_session, replay_session, resume_session
from lllm.replay.kept import check_session, keep_session
from lllm.utils import StreamWrapper

PLACE = "tokyo-cluster-7"
KEY = "alpha-secret-0001"
MACHINES: dict[str, dict[str, str]] = {
    "none": {},
    "the key": {"CLUSTER_KEY": KEY},
    "another key": {"CLUSTER_KEY": "beta-secret-22222222"},
    "a word of the program": {"DEPLOY_KEY": PLACE},
    "both": {"CLUSTER_KEY": KEY, "DEPLOY_KEY": PLACE, "OTHER_TOKEN": "Look at "},
    "a word of the marks": {"X_TOKEN": "redacted:CLUSTER_KEY", "Y_TOKEN": "CLUSTER_KEY"},
}


@pytest.fixture(autouse=True)
def machine() -> Iterator[Callable[[str], None]]:
    """Makes this machine one of MACHINES."""
    with pytest.MonkeyPatch.context() as patch:

        def become(name: str) -> None:
            patch.undo()
            for variable, value in MACHINES[name].items():
                patch.setenv(variable, value)

        yield become


def model(request: Request) -> Any:
    last = request.messages[-1]
    if last.role == "tool":
        return f"value: {last.text}"
    if "Once more" in last.text:
        return f"{PLACE} again"
    return FunctionCall("t1", "look", f'{{"place": "{PLACE}"}}')


def program(store: Any, backend: ScriptedBackend, *, reads: bool = False, ends: str = "fine") -> Any:
    """Watches a cluster. `reads`: with a key of the environment, which it puts everywhere."""
    key = os.environ.get("CLUSTER_KEY", "") if reads else "plain"

    def look(place: str, key: str = key) -> str:
        """Looks at tokyo-cluster-7."""
        return f"{place} is up, {key}"

    def parser(text: str, **_: Any) -> dict[str, str]:
        return {"state": text.partition(": ")[2], "key": key, "place": PLACE}

    async def run() -> str:
        watch = Agent(
            "watch", backend, f"You watch {PLACE} with {key}.", tools=[tool(effect="pure")(look)],
            model_args={"user": f"{PLACE} {key}"},
        )  # fmt: skip
        prompt = Prompt("machines/watch", f"Look at {{place}} with {key}.", parser=parser)
        async with arecord("watch", store=store, seed=1) as session:
            reply = await watch.acall(prompt, {"place": PLACE})
            session.save_artifact("state.md", f"{PLACE} {key} {reply.parsed['state']}")
            session.save_artifact("state.bin", b"\xff\x00" + f"{PLACE} {key}".encode())
            StreamWrapper().write(PLACE, {"key": key})
            dialog = watch.init_dialog()
            dialog.append(f"Once more {PLACE}, with {key}.")
            await watch.acall(dialog)
            return (await watch.acall(f"Once more, {ends}")).content

    return run


def record(machine: Callable[[str], None], name: str, **more: Any) -> tuple[MemoryLog, str]:
    machine(name)
    store = MemoryLog()
    asyncio.run(program(store, ScriptedBackend(model), **more)())
    return store, store.sessions()[0].id


@pytest.mark.parametrize("here", MACHINES)
@pytest.mark.parametrize("there", MACHINES)
def test_a_replay_verifies_anywhere(there: str, here: str, machine: Callable[[str], None]) -> None:
    store, session = record(machine, there)
    machine(here)
    report = replay_session(session, store=store, entry=program(store, ScriptedBackend([])))
    assert report.verified, (report.divergence, report.divergence.recorded, report.divergence.present)  # type: ignore[union-attr]
    assert report.whole


@pytest.mark.parametrize("here", MACHINES)
@pytest.mark.parametrize("there", ["the key", "both"])
def test_so_it_does_with_a_secret_in_it(there: str, here: str, machine: Callable[[str], None]) -> None:
    store, session = record(machine, there, reads=True)
    assert not [body for body in store.read(session) if KEY.encode() in body]
    machine(here)
    report = replay_session(session, store=store, entry=program(store, ScriptedBackend([]), reads=True))
    assert report.verified, (report.divergence, report.divergence.recorded, report.divergence.present)  # type: ignore[union-attr]


@pytest.mark.parametrize("here", MACHINES)
@pytest.mark.parametrize("there", ["none", "a word of the program", "both"])
def test_what_differs_is_found_anywhere(there: str, here: str, machine: Callable[[str], None]) -> None:
    store, session = record(machine, there)
    machine(here)
    report = replay_session(session, store=store, entry=program(store, ScriptedBackend([]), ends="other"))
    assert not report.verified
    assert report.divergence is not None
    assert "messages" in report.divergence.cause
    sides = str(report.divergence.recorded), str(report.divergence.present)
    assert "fine" in sides[0]
    assert "other" in sides[1]
    for value in MACHINES[here].values():
        assert value not in sides[1]


def whole(machine: Callable[[str], None], there: str) -> tuple[MemoryLog, str, list[dict[str, Any]]]:
    store, session = record(machine, there, reads=there == "both")
    return store, session, [decode(body) for body in store.read(session)]


@pytest.mark.parametrize(("there", "here"), [("none", "a word of the program"), ("both", "none"),
                                             ("both", "another key"), ("a word of the program", "the key")])  # fmt: skip
def test_a_resumption_goes_on_anywhere(there: str, here: str, machine: Callable[[str], None]) -> None:
    store, session, events = whole(machine, there)
    for cut in range(1, len(events)):
        machine(here)
        left = MemoryLog()
        left._sessions[session] = store._sessions[session][:cut]
        left._blobs = dict(store._blobs)
        backend = ScriptedBackend(model)
        done = resume_session(session, store=left, entry=program(left, backend, reads=there == "both"))
        asked = sum(event["kind"] == "ModelReplied" for event in events[cut:])
        assert done.asked == len(backend.requests) == asked
        new = b"".join(list(left.read(session))[cut:] + list(left._blobs.values()))
        machine("none")
        report = replay_session(session, store=left, entry=program(left, ScriptedBackend([])))
        assert report.verified or there == "both", report.divergence
        for value in MACHINES[here].values():
            assert value.encode() not in new or value == PLACE


@pytest.mark.parametrize("here", [name for name in MACHINES if name != "a word of the marks"])
@pytest.mark.parametrize("there", ["none", "a word of the program", "both"])
def test_a_fork_asks_nothing_again_anywhere(there: str, here: str, machine: Callable[[str], None]) -> None:
    store, session, events = whole(machine, there)
    machine(here)
    backend = ScriptedBackend(model)
    done = fork_session(session, store=store, entry=program(store, backend, reads=there == "both"))
    assert (done.reused, done.changed, done.new) == (4, 0, 0), events
    assert backend.requests == []
    written = b"".join(store.read(done.session))
    for value in MACHINES[here].values():
        assert value.encode() not in written
    report = replay_session(
        done.session, store=store, entry=program(store, ScriptedBackend([]), reads=there == "both")
    )
    assert report.verified, report.divergence


@pytest.mark.holds_secrets
@pytest.mark.parametrize(
    "variable", ["DEPLOY_KEY=production", f"DEPLOY_KEY={PLACE}", "A_TOKEN=of-production"]
)
def test_on_the_command_line(
    variable: str, nobodys_machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (nobodys_machine / "lllm.toml").write_text('[run]\ndefault = "a.yaml"\n')
    (nobodys_machine / "a.yaml").write_text(
        f"model: embedded\nagent_configs: {{a: {{system_prompt: You guard the gates of-production in {PLACE}.}}}}\n"
    )
    config = load_config()
    system = build_agent(config, model=ScriptedBackend([f"To production, {PLACE}."]))
    system("Where?")
    session = system.session.id
    kept = keep_session(session, store=system.store, name="gates").file
    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value)
    assert main(["replay", session]) == 0
    assert main(["test"]) == 0
    assert check_session(kept).passed
    text = (nobodys_machine / "a.yaml").read_text()
    (nobodys_machine / "a.yaml").write_text(text.replace("gates", "doors"))
    capsys.readouterr()
    assert main(["replay", session]) == 3
    said = capsys.readouterr()
    lines = [line.strip() for line in (said.out + said.err).splitlines()]
    recorded, present = (
        next(line for line in lines if line.startswith(side)) for side in ("recorded:", "present:")
    )
    assert "gates" in recorded
    assert "doors" in present
