"""Proxies that a configuration activates: which, with which settings, for whom, and what is wrong with it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import AgentBase, BaseProxy, MemoryLog, ScriptedBackend, build_agent, load_config
from lllm.config import Config, check, read_config
from lllm.errors import ConfigError, NameTakenError, ToolError, UnknownKeyError, UnknownNameError
from lllm.proxies import Header, Proxy
from lllm.proxies.base import needed_variables
from lllm.registry import registry


class Weather(BaseProxy, register=False):
    """Forecasts."""

    base_url = "http://127.0.0.1:9"
    auth = Header("X-Key", env="WEATHER_KEY")

    @BaseProxy.endpoint(endpoint="daily/{city}")
    def daily(self, city: str) -> None:
        """The forecast."""

    @BaseProxy.endpoint(endpoint="alerts")
    def alerts(self) -> None:
        """What to be afraid of."""


class Calc(BaseProxy, register=False):
    """Arithmetic."""

    def __init__(self, start: int = 0) -> None:
        self.start = start  # and nothing is passed on to BaseProxy

    @BaseProxy.endpoint(effect="pure")
    def add(self, a: int, b: int) -> int:
        """Adds."""
        return a + b + self.start


def double(n: int) -> int:
    """Doubles."""
    return 2 * n


@pytest.fixture(autouse=True)
def names() -> Iterator[None]:
    with registry.scope():
        registry.add("proxy", "Weather", Weather)
        registry.add("proxy", "Calc", Calc)
        registry.add("tool", "double", double)
        yield


def system_of(config: Any, **more: Any) -> AgentBase:
    return build_agent(config, model=ScriptedBackend(["x"]), log_base=MemoryLog(), **more)


def tools_of(system: AgentBase, agent: str = "a") -> list[str]:
    return [tool.name for tool in system.agents[agent].tools]


def agents(a: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    return {"agent_configs": {"a": a or {}}, **top}


# --- who has what


def test_the_systems_own_code_calls_them() -> None:
    class Own(AgentBase, register=False):
        agent_type = "own"

        def call(self, task: str, **more: Any) -> Any:
            return self.proxy("Calc.add", a=int(task), b=1)

    registry.add("agent", "own", Own)
    system = system_of(agents(agent_type="own", activate_proxies=["Calc"]))
    assert system("41") == 42
    assert system.proxy.available() == ["Calc"]


def test_one_runtime_for_code_and_tools() -> None:
    system = system_of(agents({"tools": ["Calc.add"]}, activate_proxies=["Calc"]))
    system.proxy.proxies["Calc"].start = 100  # type: ignore[attr-defined]
    assert system.agents["a"].tools == system.proxy.tools("Calc.add")
    other = system_of(agents({"tools": ["Calc.add"]}, activate_proxies=["Calc"]))
    assert (system.proxy("Calc.add", a=1, b=1), other.proxy("Calc.add", a=1, b=1)) == (102, 2)


@pytest.mark.parametrize(
    ("tools", "wanted"),
    [
        (["Weather.daily"], ["Weather__daily"]),
        (["Weather.*"], ["Weather__daily", "Weather__alerts"]),
        (["Weather"], ["Weather__daily", "Weather__alerts"]),
        (["Weather.d*"], ["Weather__daily"]),
        (["*.a*"], ["Weather__alerts", "Calc__add"]),
        (["double", "Calc.add"], ["double", "Calc__add"]),
        (["Weather.daily", "Weather.*"], ["Weather__daily", "Weather__alerts"]),
        (["textwrap:dedent", "Calc.*"], ["dedent", "Calc__add"]),
    ],
)
def test_endpoints_are_named_as_tools(tools: list[str], wanted: list[str]) -> None:
    assert tools_of(system_of(agents({"tools": tools}, activate_proxies=["Weather", "Calc"]))) == wanted


def test_an_agent_has_all_of_what_it_activates() -> None:
    config = {
        "activate_proxies": ["Weather"],
        "agent_type": "several",
        "agent_configs": {
            "all": {"activate_proxies": ["Calc"]},
            "and_more": {"proxies": ["Calc"], "tools": ["double"]},
            "one": {"activate_proxies": ["Calc", "Weather"], "tools": ["Weather.daily"]},
            "none": {"activate_proxies": ["Calc"], "tools": []},
            "plain": {},
        },
    }

    class Several(AgentBase, register=False):
        agent_type = "several"

    registry.add("agent", "several", Several)
    system = system_of(config)
    assert {name: tools_of(system, name) for name in system.agents} == {
        "all": ["Calc__add"],
        "and_more": ["double", "Calc__add"],
        "one": ["Weather__daily"],
        "none": [],
        "plain": [],  # what is active at the top may be named, and is not given
    }
    assert system.proxy.available() == ["Weather", "Calc"]


def test_naming_a_tool_activates_its_proxy_where_no_list_forbids() -> None:
    system = system_of(agents({"tools": ["Calc.add"]}))
    assert (tools_of(system), system.proxy.available()) == (["Calc__add"], ["Calc"])
    several = {"agent_configs": {name: {"tools": ["Calc.add"]} for name in "ab"}, "agent_type": "pair"}

    class Pair(AgentBase, register=False):
        agent_type = "pair"

    registry.add("agent", "pair", Pair)
    pair = system_of(several)
    assert pair.agents["a"].tools == pair.agents["b"].tools == pair.proxy.tools("Calc.add")
    for a, top in (({}, {"activate_proxies": ["Weather"]}), ({"activate_proxies": ["Weather"]}, {})):
        with pytest.raises(ConfigError, match="the proxy 'Calc' is not active here"):
            system_of(agents({"tools": ["Calc.add"], **a}, **top))


def test_endpoints_by_the_hundred_are_found_first() -> None:
    from lllm import Agent

    marked = {f"e{n}": BaseProxy.endpoint(effect="pure")(lambda self: None) for n in range(66)}
    Many = type("Many", (BaseProxy,), marked, register=False)
    registry.add("proxy", "Many", Many)
    for a in ({"activate_proxies": ["Many"]}, {"tools": ["Many.*"]}, {"tools": ["Many"]}):
        agent = system_of(agents(a)).agents["a"]
        assert len(agent.tools) == 66
        assert list(agent._binding(None, {}).opening["tools"]) == ["find_tools"]
    named = system_of(agents({"tools": ["Many.e1", "Many.*"]})).agents["a"]
    assert list(named._binding(None, {}).opening["tools"]) == ["Many__e1", "find_tools"]
    # several patterns, none of which has too many
    halves = {"tools": ["Many.e1*", "Many.e2*", "Many.e3*", "Many.e4*", "Many.e5*", "Many.e6*", "Many.e?"]}
    assert list(system_of(agents(halves)).agents["a"]._binding(None, {}).opening["tools"]) == ["find_tools"]
    some = {"tools": ["Many.e1*", "Many.e2*"]}
    assert len(system_of(agents(some)).agents["a"]._binding(None, {}).opening["tools"]) == 22
    mine = Agent("a", ScriptedBackend([]), tools=[Many])
    assert list(mine._binding(None, {}).opening["tools"]) == ["find_tools"]


def test_prompts_describe_the_agents_own_proxies() -> None:
    text = "Call {api_catalog}. {{api_docs}} stays."
    system = system_of(
        agents({"system_prompt": text, "activate_proxies": ["Calc"]}, activate_proxies=["Weather"])
    )
    said = system.agents["a"].init_dialog().messages[0].text
    assert "Calc.add(a: integer, b: integer): Adds." in said
    assert "Weather" not in said
    assert "{{api_docs}} stays" in said
    plain = system_of(agents({"system_prompt": text}))
    assert plain.agents["a"].init_dialog().messages[0].text == text


# --- settings


def proxy_of(config: dict[str, Any], name: str = "Weather") -> Any:
    return system_of(config).proxy.proxies[name]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("base_url", "http://127.0.0.1:10"),
        ("timeout", 1.5),
        ("concurrency", 3),
        ("requests_per_minute", 60),
        ("max_bytes", 1000),
    ],
)
def test_a_setting_reaches_its_proxy(key: str, value: Any) -> None:
    config = agents(activate_proxies=["Weather"], proxy_options={"Weather": {key: value}})
    assert getattr(proxy_of(config), key) == value
    assert getattr(Weather, key) != value


def test_cache_and_constructor_arguments() -> None:
    config = agents(
        activate_proxies=["Calc", "Weather"],
        proxy_options={"Calc": {"start": 5, "cache": False}, "Weather": {"cache": False}},
    )
    system = system_of(config)
    assert system.proxy("Calc.add", a=1, b=1) == 7
    assert [one.use_cache for one in system.proxy.proxies.values()] == [False, False]
    config["proxy_options"]["Calc"] = {"strat": 5}
    with pytest.raises(UnknownKeyError, match=r"strat.*\n.*start"):
        system_of(config)


def test_each_system_reads_its_own_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lllm.toml").write_text(
        '[proxy_options.Weather]\ntimeout = 3\nenv = { WEATHER_KEY = "WEATHER_KEY_USUAL" }\n'
    )
    (tmp_path / ".env").write_text("WEATHER_KEY_USUAL=usual-key-1\nWEATHER_KEY_STAGING=staging-key-2\n")
    usual = load_config(agents(activate_proxies=["Weather"]))
    staging = load_config(
        agents(
            activate_proxies=["Weather"],
            proxy_options={"Weather": {"env": {"WEATHER_KEY": "WEATHER_KEY_STAGING"}}},
        )
    )
    first, second = proxy_of(usual), proxy_of(staging)  # type: ignore[arg-type]
    assert (needed_variables(first), needed_variables(second)) == (
        ["WEATHER_KEY_USUAL"],
        ["WEATHER_KEY_STAGING"],
    )
    assert (first.timeout, second.timeout) == (3, 3)
    for config, name in ((usual, "WEATHER_KEY_USUAL"), (staging, "WEATHER_KEY_STAGING")):
        assert not any(name in secret for secret in config.secrets())  # a name is no secret
        assert config.as_dict()["proxy_options"]["Weather"]["env"] == {"WEATHER_KEY": name}
    assert {"usual-key-1", "staging-key-2"} <= usual.secrets()


@pytest.mark.parametrize("given", ["2024-12-31", "2024-12-31T10:00:00+02:00"])
def test_a_cutoff_date(given: str) -> None:
    config = agents(activate_proxies=["Weather"], cutoff_date=given)
    proxy = system_of(config).proxy
    assert str(proxy.cutoff_date).startswith("2024-12-31")
    assert proxy.proxies["Weather"].cutoff_date == proxy.cutoff_date
    assert system_of({**config, "deploy_mode": True}).proxy.cutoff_date is None


def test_a_cutoff_date_of_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime

    (tmp_path / "a.yaml").write_text(
        "cutoff_date: 2024-12-31\nactivate_proxies: [Calc]\nagent_configs: {a: {}}\n"
    )
    found = [load_config(tmp_path / "a.yaml"), load_config(agents(cutoff_date=datetime.date(2024, 12, 31)))]
    found.append(load_config(agents(), overrides=["cutoff_date=2024-12-31"]))
    (tmp_path / "lllm.toml").write_text("[profiles.past]\ncutoff_date = 2024-12-31\n")
    found.append(load_config(agents(), project=tmp_path, profile="past"))
    monkeypatch.setenv("LLLM_CUTOFF_DATE", "2024-12-31")
    found.append(load_config(agents()))
    assert {config.cutoff_date for config in found} == {"2024-12-31"}


# --- what is wrong

NOT_ACTIVE = "a.yaml:2: the proxy 'Weather' is not active here: activate_proxies has Calc"
WRONG: dict[str, str] = {
    "activate_proxies: [Wether]": "a.yaml:1: no proxy named 'Wether' (activate_proxies.0)\n  Did you mean 'Weather'?",
    "activate_proxies:\n- Calc\n- Wether": "a.yaml:3: no proxy named 'Wether' (activate_proxies.1)",
    "a: {tools: [Weather.dayly]}": "a.yaml:2: no endpoint named 'Weather.dayly'",
    "a: {tools: [Wether.daily]}": "a.yaml:2: no proxy named 'Wether' (agent_configs.a.tools.0)",
    "a: {tools: ['Weather.x*']}": "a.yaml:2: no endpoint named 'Weather.x*'",
    "a: {tools: ['*']}": "a.yaml:2: '*' is no endpoint of any active proxy",
    "a: {tools: [Weather.__init__]}": "a.yaml:2: no endpoint named 'Weather.__init__'",
    "a: {tools: [weather.daily]}": "a.yaml:2: no proxy named 'weather'",
    "a: {proxies: [Calc], tools: [Weather.daily]}": NOT_ACTIVE,
    "cutoff_date: 2024-13-01": "a.yaml:1: cutoff_date is '2024-13-01' (text); it wants a date like 2024-12-31",
    "cutoff_date: soon": "a.yaml:1: cutoff_date is 'soon' (text)",
    "deploy_mode: 2": "a.yaml:1: deploy_mode is 2",
    "proxy_options: {Weather: {timeout: 0}}": "a.yaml:1: proxy_options.Weather.timeout is 0",
    "proxies: [Weather]\nproxy_options:\n  Weather:\n    timout: 1": "a.yaml:4: unknown key 'timout'",
    "activate_proxies: [Calc]\nproxy_options:\n  Calc:\n    strat: 1": "a.yaml:4: unknown key 'strat'",
    "agent_configs: {a: {tools: [Calc.add]}}\nproxy_options:\n  Calc:\n    strat: 1\n": "a.yaml:4: unknown key 'strat'",
    "activate_proxies: [Calc]\nproxy_options: {Calc: {strat: 1}}\nagent_configs: {a: {tools: [Calc.add]}}": "a.yaml:2: unknown",
    "proxy_options: {Weather: {api_key: '8f-secret'}}": "a.yaml:1: proxy_options.Weather.api_key holds a secret",
    "proxy_options: {Weather: {env: {WEATHER_KEY: '8f-secret'}}}": "Weather.env is given; it wants names",
    "proxy_options: {Weather: {env: {WEATHER_KEY: '${HELD}'}}}": "env.WEATHER_KEY is given; it wants the name",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_has_its_line(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HELD", "heldsecret")
    agent = (
        text
        if "agent_configs" in text
        else f"agent_configs:\n  {text}\n"
        if text.startswith("a:")
        else f"{text}\nagent_configs: {{a: {{}}}}\n"
    )
    (tmp_path / "a.yaml").write_text(agent)
    loaded, problems = read_config("a.yaml", partly=True)
    assert loaded is not None
    found = [str(p.error) for p in [*problems, *check(loaded, model="scripted")] if p.severity == "error"]
    assert len(set(found)) == 1
    assert WRONG[text] in found[0]
    assert not any(secret in found[0] for secret in ("8f-secret", "heldsecret"))
    with pytest.raises(ConfigError) as caught:
        system_of("a.yaml")
    assert WRONG[text] in str(caught.value)


def test_a_clash_of_tool_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def Calc__add(n: int) -> int:
        """Adds otherwise."""
        return n

    class Calc__(BaseProxy, register=False):
        @BaseProxy.endpoint
        def add(self) -> None:
            """Adds, too."""

    Other = type("Other", (BaseProxy,), dict(vars(Calc__)), register=False)
    Other._proxy_path = "Ca/lc"
    registry.add("tool", "Calc__add", Calc__add)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("agent_configs:\n  a:\n    tools:\n    - Calc.add\n    - Calc__add\n")
    with pytest.raises(
        NameTakenError, match=r"a\.yaml:5: two tools are named 'Calc__add': the endpoint 'Calc.add'"
    ):
        system_of("a.yaml")


def warnings_of(config: Config) -> list[str]:
    return [
        str(problem.error) for problem in check(config, model="scripted") if problem.severity == "warning"
    ]


def test_check_names_the_variables_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("activate_proxies:\n- Calc\n- Weather\nagent_configs: {a: {}}\n")
    (said,) = warnings_of(load_config("a.yaml"))
    assert said.startswith("a.yaml:3: the proxy 'Weather' needs the variable WEATHER_KEY, which is not set")
    system = system_of("a.yaml")  # and everything else works
    assert system.proxy("Calc.add", a=1, b=1) == 2
    with pytest.raises((ConfigError, ToolError), match="WEATHER_KEY"):
        system.proxy("Weather.daily", city="Oslo")
    (tmp_path / ".env").write_text("WEATHER_KEY=from-env-file\n")
    assert warnings_of(load_config("a.yaml")) == []


def test_check_names_the_variable_of_an_option() -> None:
    config = agents(activate_proxies=["sql"], proxy_options={"sql": {"url_env": "NO_SUCH_DATABASE"}})
    (said,) = warnings_of(load_config(config))
    assert "the proxy 'sql' needs the variable NO_SUCH_DATABASE" in said


def test_check_warns_of_settings_for_nobody() -> None:
    config = load_config(
        agents(
            {"tools": ["Calc.add"]},
            proxy_options={name: {"timeout": 1} for name in ("Wether", "Weather", "Calc")},
        )
    )
    first, second = warnings_of(config)
    assert "no proxy named 'Wether' (proxy_options.Wether)\n  Did you mean 'Weather'?" in first
    assert "the system does not use the proxy 'Weather', so its settings have no effect" in second


# --- in Python


def test_proxies_among_the_tools_of_an_agent() -> None:
    from lllm import Agent

    proxy = Proxy([Calc, Weather])
    both = ["Calc__add", "Weather__daily", "Weather__alerts"]
    ways: list[tuple[Callable[[], Any], list[str]]] = [
        (lambda: proxy, both),
        (lambda: [proxy], both),
        (lambda: [Calc, Weather], both),
        (lambda: [Calc(), Weather()], both),
        (lambda: [Calc.add], both[:1]),
        (lambda: [Weather().daily, Weather.alerts], both[1:]),
        (lambda: [proxy.tools("Weather.*")], both[1:]),
        (lambda: [*proxy.tools("Calc.add"), double], [*both[:1], "double"]),
        (lambda: ["Calc.add", "Weather.*"], both),
        (lambda: ["Weather", "double"], [*both[1:], "double"]),
    ]
    for way, names in ways:
        assert [tool.name for tool in Agent("a", ScriptedBackend([]), tools=way()).tools] == names
    mine = Agent("a", ScriptedBackend([]), activate_proxies=[Calc], system_prompt="{api_overview}")
    assert [tool.name for tool in mine.tools] == both[:1]
    assert mine.init_dialog().messages[0].text == "Calc: Arithmetic."
    for wrong in ([BaseProxy], [type("Empty", (BaseProxy,), {})]):
        with pytest.raises(ConfigError, match="has no endpoints"):
            Agent("a", ScriptedBackend([]), tools=wrong)
    for name in ("Calc.nope", "Nope.add", "Calc._as", "calc.add"):
        with pytest.raises(UnknownNameError):
            Agent("a", ScriptedBackend([]), tools=[name])


def test_an_endpoint_named_twice_is_one_tool() -> None:
    from lllm import Agent, Prompt

    model = ScriptedBackend([])
    agent = Agent("a", model, tools=["Calc.add", "Calc.*", "Weather.daily"])
    assert [tool.name for tool in agent.tools] == ["Calc__add", "Weather__daily"]
    prompt = Prompt("p", "Do.", functions=["Calc.add", "Weather.*", "Weather.alerts"])
    offered = ["Calc__add", "Weather__daily", "Weather__alerts"]
    assert [name for name in agent._binding(prompt, {}).opening["tools"] if name != "read_result"] == offered
    with pytest.raises(NameTakenError):  # two keys, or two addresses: not the same tool
        Agent("a", model, tools=[Weather(timeout=1), Weather(timeout=2)])._binding(None, {})


def test_an_instance_keeps_its_own_settings() -> None:
    from lllm import Agent

    calc = Calc(start=10)
    tool = Agent("a", ScriptedBackend([]), tools=[calc.add]).tools[0]
    import asyncio

    assert asyncio.run(tool.invoke({"a": 1, "b": 1})) == 12
    assert Weather(base_url="http://127.0.0.1:10", timeout=2).timeout == 2
    with pytest.raises(ConfigError, match="timeout must be seconds above 0, got 0"):
        Weather(timeout=0)


def test_prompts_name_endpoints() -> None:
    from lllm import Prompt

    registry.add("prompt", "p", Prompt("p", "Do {task}.", functions=["Calc.*", "double"]))
    registry.add("prompt", "q", Prompt("q", "Do.", functions=[Calc, Weather.daily]))
    config = agents({"prompt": "p", "prompts": ["q"]}, activate_proxies=["Calc"])
    agent = system_of(config).agents["a"]
    assert list(agent._binding(agent.prompt, {}).opening["tools"]) == ["Calc__add", "double"]
    assert list(agent._binding(agent._prompts[0], {}).opening["tools"]) == ["Calc__add", "Weather__daily"]
    with pytest.raises(ConfigError, match="'Calc' is not active here"):
        system_of({**config, "activate_proxies": ["Weather"]})
