"""L6: what `build_agent` and the commands are given reaches a system, whatever its own constructor passes on."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, AgentBase, AsyncAgentBase, MemoryLog, ScriptedBackend, StreamWrapper, build_agent
from lllm.errors import ConfigError
from lllm.llm.build import agents_of
from lllm.registry import registry

PAID = {"agent_configs": {"a": {"model_name": "openai/gpt-4o", "base_url": "http://127.0.0.1:9/v1"}}}
"""A model that must not be asked. Nothing listens at its address."""


@pytest.fixture(autouse=True)
def names() -> Iterator[None]:
    with registry.scope():
        yield


class Asking(AgentBase):
    """Base class of the systems here."""

    def call(self, task: str, **more: Any) -> str:
        return str(self.agents["a"].call(task).content)


class Documented(Asking):
    agent_type = "documented"

    def __init__(self, config, ckpt_dir, stream, **kwargs):  # type: ignore[no-untyped-def]
        super().__init__(config, ckpt_dir, stream)


class Narrow(Asking):
    agent_type = "narrow"

    def __init__(self, config, ckpt_dir, stream):  # type: ignore[no-untyped-def]
        super().__init__(config, ckpt_dir, stream)


class OtherNames(Asking):
    agent_type = "other-names"

    def __init__(self, cfg, folder, out):  # type: ignore[no-untyped-def]
        super().__init__(cfg, folder, out)


class PositionalOnly(Asking):
    agent_type = "positional-only"

    def __init__(self, config, ckpt_dir, stream, /, **kwargs):  # type: ignore[no-untyped-def]
        super().__init__(config, ckpt_dir, stream)


class Starred(Asking):
    agent_type = "starred"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)


class Keywords(Asking):
    agent_type = "keywords"

    def __init__(self, *, stream: Any, config: Any) -> None:
        super().__init__(config, stream=stream)


class PassesNothing(Asking):
    agent_type = "passes-nothing"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()


class HardCoded(Asking):
    agent_type = "hard-coded"

    def __init__(self, config: Any, ckpt_dir: Any, stream: Any, model: Any = None) -> None:
        super().__init__(config, ckpt_dir, stream, model="openai/gpt-4o")


class Late(Asking):
    agent_type = "late"

    def __init__(self, config: Any, ckpt_dir: Any, stream: Any, **kwargs: Any) -> None:
        self.seen: list[str] = []
        self.name_of_config = config.name
        super().__init__(config, ckpt_dir, stream)


class Never(Asking):
    agent_type = "never"

    def __init__(self, config: Any, ckpt_dir: Any, stream: Any, **kwargs: Any) -> None:
        self.seen: list[str] = []


class Below(Documented):
    agent_type = "below"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class FarBelow(Below):
    agent_type = "far-below"


@dataclass
class Data(Asking):
    agent_type = "data"
    retries: int = 3


@dataclass
class DataThatCalls(Asking):
    agent_type = "data-that-calls"
    retries: int = 3

    def __post_init__(self) -> None:
        super().__init__()


class Rebuilds(Asking):
    agent_type = "rebuilds"

    def __init__(self, config: Any, ckpt_dir: Any, stream: Any, **kwargs: Any) -> None:
        super().__init__(config, ckpt_dir, stream)
        self.agents = agents_of(self.config)


class OwnNew(Asking):
    agent_type = "own-new"

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, config: Any, ckpt_dir: Any, stream: Any, **kwargs: Any) -> None:
        super().__init__(config, ckpt_dir, stream)


class Wrapping(Asking):
    """As the documents have it: a system whose constructor builds the agent."""

    agent_type = "wrapping"

    def __init__(self, config: Any, ckpt_dir: Any, stream: Any, **kwargs: Any) -> None:
        super().__init__(config, ckpt_dir, stream)
        self.inner = build_agent(PAID, ckpt_dir, stream, "documented")

    def call(self, task: str, **more: Any) -> str:
        return str(self.inner(task))


class Asynchronous(AsyncAgentBase):
    agent_type = "asynchronous"

    def __init__(self, config: Any, ckpt_dir: Any, stream: Any, **kwargs: Any) -> None:
        super().__init__(config, ckpt_dir, stream)

    async def call(self, task: str, **more: Any) -> str:
        return (await self.agents["a"].acall(task)).content


SYSTEMS = [
    Documented, Narrow, OtherNames, PositionalOnly, Starred, Keywords, PassesNothing, HardCoded, Late, Never, Below,
    FarBelow, Data, DataThatCalls, Rebuilds, OwnNew, Wrapping, Asynchronous,
]  # fmt: skip
for _kind in SYSTEMS:
    registry.remove("agent", str(_kind.agent_type))  # each test registers what it needs


def register(kind: type) -> str:
    name = str(kind.agent_type)  # type: ignore[attr-defined]
    registry.add("agent", name, kind, overwrite=True)
    return name


@pytest.mark.parametrize("kind", SYSTEMS)
def test_the_model_and_the_store_reach_every_system(kind: type, tmp_path: Path) -> None:
    register(Documented)
    log, model, shown = MemoryLog(), ScriptedBackend(["scripted"]), []
    screen = type("Screen", (), {"write": lambda self, text: shown.append(text)})()
    system = build_agent({"name": "n", **PAID}, tmp_path, screen, register(kind), model=model, log_base=log)
    assert system.config.name == "n"
    assert system.ckpt_dir == tmp_path
    system.stream.write("seen")
    assert shown == ["seen"]
    assert system.store is log
    assert system("hello") == "scripted"
    assert len(model.requests) == 1
    assert [info.status for info in log.sessions()] == ["done"]


def test_a_system_that_is_made_by_hand_keeps_what_its_constructor_swallows() -> None:
    log = MemoryLog()
    system = Documented(PAID, None, None, model=ScriptedBackend(["scripted"]), log_base=log)
    assert system("hello") == "scripted"
    assert len(log.sessions()) == 1


def test_a_nested_system_may_have_a_backend_of_its_own() -> None:
    judge = ScriptedBackend(["judged"])

    class Judged(Documented):
        agent_type = "judged"

        def __init__(self, config: Any, ckpt_dir: Any, stream: Any, **kwargs: Any) -> None:
            super().__init__(config, ckpt_dir, stream)
            self.judge = Documented(PAID, None, None, model=judge)
            self.helper = Documented(PAID, None, None)
            self.asker = Agent("asker")  # what the configuration says, and that is what was given

    model = ScriptedBackend(["first", "helped", "asked"])
    system = build_agent(PAID, agent_name="judged", model=model, log_base=MemoryLog())
    assert isinstance(system, Judged)
    assert [part("x") for part in (system, system.judge, system.helper)] == ["first", "judged", "helped"]
    assert system.asker("x").content == "asked"


def test_the_construction_ends_with_the_constructor() -> None:
    build_agent(PAID, agent_name=register(Documented), model=ScriptedBackend(["x"]), log_base=MemoryLog())
    assert Narrow(PAID, None, None).agents["a"].model == "openai/gpt-4o"


def test_a_configuration_that_is_made_of_the_given_one_is_kept() -> None:
    class Changing(Asking):
        agent_type = "changing"

        def __init__(self, config: Any, ckpt_dir: Any, stream: Any) -> None:
            super().__init__(replace(config, name="changed"), Path(ckpt_dir) / "mine", StreamWrapper(stream))

    system = build_agent(PAID, "files", None, "changing", model=ScriptedBackend(["x"]), log_base=MemoryLog())
    assert (system.config.name, system.ckpt_dir) == ("changed", Path("files/mine"))


def passing(**passed: Any) -> Callable[[Any], type]:
    def make(_: Any) -> type:
        class Passing(Asking):
            agent_type = "passing"

            def __init__(self, config: Any, ckpt_dir: Any, stream: Any, model: Any, log_base: Any) -> None:
                given = {"ckpt_dir": ckpt_dir, "stream": stream, "model": model, "log_base": log_base}
                super().__init__(**{"config": config, **given, **passed})

        return Passing

    return make


def set_on_its_own(_: Any) -> type:
    class SetsItsOwn(Asking):
        agent_type = "own"

        def __init__(self, config: Any, ckpt_dir: Any, stream: Any, **kwargs: Any) -> None:
            self.agents = {"a": Agent("a", "openai/gpt-4o")}

    return SetsItsOwn


def demanding(_: Any) -> type:
    class Demanding(Asking):
        agent_type = "demanding"

        def __init__(self, config: Any, ckpt_dir: Any, stream: Any, *, flavour: str) -> None:
            super().__init__(config, ckpt_dir, stream)

    return Demanding


def awaited(_: Any) -> type:
    class Awaited(Asking):
        agent_type = "awaited"

        async def __init__(self, config: Any, ckpt_dir: Any, stream: Any, **kwargs: Any) -> None:  # type: ignore[misc]
            super().__init__(config, ckpt_dir, stream)

    return Awaited


def no_system(_: Any) -> type:
    class NoSystem:
        agent_type = "no-system"

        def __init__(self, config: Any, ckpt_dir: Any, stream: Any) -> None:
            self.agents = {"a": Agent("a", "openai/gpt-4o")}

    return NoSystem


def abstract(_: Any) -> type:
    class Abstract(Asking, ABC):
        agent_type = "abstract"

        @abstractmethod
        def more(self) -> None: ...

    return Abstract


def frozen(_: Any) -> type:
    @dataclass(frozen=True)
    class Frozen(Asking):
        agent_type = "frozen"
        retries: int = 3

    return Frozen


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (abstract, "the system 'abstract' cannot be built: Can't instantiate abstract class Abstract"),
        (frozen, "the system 'frozen' cannot be built: cannot assign to field"),
        (passing(model=ScriptedBackend(["mine"])), "was given the model ScriptedBackend and passes"),
        (passing(log_base=MemoryLog()), "was given the log_base MemoryLog and passes MemoryLog on"),
        (passing(config={"agent_configs": {"a": {}}}), "was given the config Config and passes dict on"),
        (passing(ckpt_dir="elsewhere"), "passes 'elsewhere' on"),
        (set_on_its_own, "sets self.agents and never calls super().__init__"),
        (demanding, "needs 'flavour', which was not given"),
        (awaited, "is async, and Python cannot await one"),
        (no_system, "was given model, which it does not accept"),
    ],
)
def test_a_constructor_that_stands_in_the_way_fails_the_building(
    make: Callable[[Any], type], words: str
) -> None:
    name = register(make(None))
    with pytest.raises(ConfigError) as caught:
        build_agent(PAID, agent_name=name, model=ScriptedBackend(["x"]), log_base=MemoryLog())
    assert words in str(caught.value)


def test_an_argument_that_the_constructor_does_not_take_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'flavor'"):
        build_agent(PAID, agent_name=register(Narrow), flavor="x")


def test_what_the_constructor_raises_is_its_own() -> None:
    class Broken(Asking):
        agent_type = "broken"

        def __init__(self, config: Any, ckpt_dir: Any, stream: Any, **kwargs: Any) -> None:
            raise TypeError("mine")

    with pytest.raises(TypeError, match=r"^mine$") as caught:
        build_agent(PAID, agent_name="broken")
    assert not isinstance(caught.value, ConfigError)
