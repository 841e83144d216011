"""Discovery: what is found, under which name, as which object, and what is said about what is broken."""

import importlib.util
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lllm.config import check, load_config
from lllm.discovery import auto_discover
from lllm.errors import ConfigError, NameTakenError, UnknownNameError
from lllm.llm.build import build_agent
from lllm.models.prompt import Prompt
from lllm.registry import Registry
from lllm.registry import registry as the_registry

Write = Callable[[str, str], Path]

PROMPT = "from lllm.models.prompt import Prompt\nP = Prompt(path='{path}', prompt='hello')\n"
MARKED = "class {name}:\n    __lllm_kind__ = '{kind}'\n"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with the_registry.scope(empty=True) as scope:
        yield scope


@pytest.fixture(autouse=True)
def modules_are_forgotten() -> Iterator[None]:
    """What a test imported is gone after it, and so is what it did to sys.path."""
    modules, paths = dict(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.path[:] = paths
    importlib.invalidate_caches()


@pytest.fixture
def write(nobodys_machine: Path) -> Write:
    def write_file(name: str, text: str = "") -> Path:
        path = nobodys_machine / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write_file


@pytest.fixture
def project(write: Write) -> Write:
    write("lllm.toml", "[discovery]\nprompts = ['prompts']\nproxies = ['proxies']\n")
    write("proxies/.keep", "")
    return write


def found(registry: Registry) -> list[tuple[str, str, str]]:
    return [(entry.kind, entry.name, entry.source) for entry in auto_discover(registry=registry).found]


def said(registry: Registry) -> list[str]:
    return [problem.message for problem in auto_discover(registry=registry).problems]


# --- what is found


def test_nested_folders_from_a_folder_below(
    project: Write, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project("prompts/b.py", PROMPT.format(path="demo/b")).parent.parent
    project("prompts/deep/er/a.py", PROMPT.format(path="demo/a"))
    project("proxies/web.py", MARKED.format(name="Wiki", kind="proxy"))
    monkeypatch.chdir(project("sub/folder/x", "").parent)
    assert found(registry) == [
        ("prompt", "demo/b", f"{root}/prompts/b.py:2"),
        ("prompt", "demo/a", f"{root}/prompts/deep/er/a.py:2"),
        ("proxy", "Wiki", f"{root}/proxies/web.py:1"),
    ]
    assert isinstance(registry.get("prompt", "demo/b"), Prompt)


def test_every_kind_that_is_marked_and_nothing_else(project: Write, registry: Registry) -> None:
    project(
        "proxies/all.py",
        """
        import enum

        class Kind(enum.Enum):
            ONE = "one"

        class Base:
            __lllm_kind__ = "agent"
            agent_type = None          # abstract: it has no name

        class Agent(Base):
            agent_type = Kind.ONE

        class Unnamed(Agent):          # names are not inherited
            pass

        class Tool:
            __lllm_kind__ = "tool"
            def __init__(self, name):
                self.name = name

        hammer, saw = Tool("hammer"), Tool("saw")

        class Wiki:
            __lllm_kind__ = "api"
            _proxy_path = "ref/wiki"

        class Renamed:
            __lllm_kind__ = "step"
            __lllm_name__ = "other"

        class Odd:
            __lllm_kind__ = "no such kind"

        class Loud:
            def __getattr__(self, name):
                raise RuntimeError(name)

        loud = Loud()
        number, text, none = 1, "x", None
        """,
    )
    assert [(kind, name) for kind, name, _ in found(registry)] == [
        ("agent", "one"),
        ("tool", "Tool"),
        ("tool", "hammer"),
        ("tool", "saw"),
        ("api", "ref/wiki"),
        ("step", "other"),
    ]


def test_where_it_is_defined_and_nowhere_else(project: Write, registry: Registry) -> None:
    project("prompts/a_user.py", "from prompts.shared import P\nfrom json import loads\n")
    project("prompts/shared.py", PROMPT.format(path="demo/shared"))
    project("proxies/__init__.py", "from proxies.web import Wiki\n")
    project("proxies/web.py", MARKED.format(name="Wiki", kind="proxy"))
    names = [(name, source.rpartition("/")[2]) for _, name, source in found(registry)]
    assert names == [("demo/shared", "shared.py:2"), ("Wiki", "web.py:1")]


def test_calling_it_again_adds_what_is_new(project: Write, registry: Registry) -> None:
    project("prompts/a.py", PROMPT.format(path="a"))
    assert len(found(registry)) == 1
    first = registry.get("prompt", "a")
    project("prompts/b.py", PROMPT.format(path="b"))
    assert len(found(registry)) == 2
    assert registry.get("prompt", "a") is first


SYSTEM = {"agent_configs": {"a": {"model": "scripted", "prompt": "same"}}}


@pytest.mark.parametrize(
    "files",
    [
        {"prompts/a.py": PROMPT.format(path="same"), "prompts/b.py": PROMPT.format(path="same")},
        {"prompts/a.py": PROMPT.format(path="same"), "prompts/same.md": "---\ndescription: x\n---\nHello"},
        {
            "prompts/same.md": "---\ndescription: x\n---\nHello",
            "prompts/deep/b.md": "---\npath: same\n---\nHello",
        },
        {"prompts/a.yaml": "- {path: same, prompt: a}\n- {path: same, prompt: a}\n"},
        {"prompts/a.py": PROMPT.format(path="same") + "Q = Prompt(path='same', prompt='other')\n"},
    ],
    ids=["two modules", "a module and a file", "two files", "one file", "one module"],
)
def test_a_name_defined_twice_is_refused_on_use(
    project: Write, registry: Registry, files: dict[str, str]
) -> None:
    for name, text in files.items():
        project(name, text)
    project("prompts/c.py", PROMPT.format(path="other"))
    for _ in range(2):  # also when discovery is performed once more
        report = auto_discover()
        assert (
            len([problem for problem in report.problems if "two prompts are named 'same'" in problem.message])
            == 1
        )
        with pytest.raises(
            NameTakenError, match=r"two prompts are named 'same': one from prompts/.*, one from prompts/"
        ) as caught:
            registry.get("prompt", "same")
        assert all(file in str(caught.value) for file in files)
        assert registry.has("prompt", "same")
        assert registry.get("prompt", "other").prompt == "hello"
        assert registry.names("prompt") == ["other", "same"]
        assert len(registry.entries("prompt")) == 3
    config = load_config(SYSTEM)
    errors = [problem for problem in check(config) if problem.severity == "error"]
    assert "two prompts are named 'same'" in errors[0].message
    assert "(agent_configs.a.prompt)" in errors[0].message
    with pytest.raises(NameTakenError, match="two prompts are named 'same'"):
        build_agent(config)
    other = load_config({"agent_configs": {"a": {"model": "scripted", "prompts": ["other"]}}})
    assert [problem.severity for problem in check(other)] == ["warning"], "nobody uses it here"
    for name in list(files)[1:]:
        (Path.cwd() / name).unlink()
    registry.add("prompt", "same", Prompt("same", "mine"), overwrite=True)
    assert registry.get("prompt", "same").prompt == "mine"


def test_a_system_type_defined_twice_is_refused(write: Write, registry: Registry) -> None:
    write("lllm.toml", "[discovery]\nagents = ['agents']\n[log]\ntype = 'none'\n")
    for name in ("first", "second"):
        write(
            f"agents/{name}.py",
            "from lllm import AgentBase\nclass S(AgentBase):\n    agent_type = 'twice'\n"
            f"    def call(self, task, **more): return '{name}'\n",
        )
    report = auto_discover()
    assert "agents/second.py:2: does not import: NameTakenError" in report.problems[0].message
    for call in (lambda: registry.get("agent", "twice"), lambda: build_agent({"agent_type": "twice"})):
        with pytest.raises(NameTakenError, match=r"two agents are named 'twice'.*first.*second"):
            call()


def test_a_file_that_is_read_again_has_its_names_still(project: Write, registry: Registry) -> None:
    project("prompts/a.md", "---\npath: a\n---\nfirst")
    assert auto_discover().problems == ()
    assert registry.get("prompt", "a").prompt == "first"
    project("prompts/a.md", "---\npath: a\n---\nsecond")
    assert auto_discover().problems == ()
    assert registry.get("prompt", "a").prompt == "second"


def test_a_single_file_and_a_folder_named_twice(write: Write, registry: Registry) -> None:
    write("lllm.toml", "[discovery]\nprompts = ['one.py', 'one.py', 'more', 'more/deep']")
    write("one.py", PROMPT.format(path="one"))
    write("more/deep/two.py", PROMPT.format(path="two"))
    assert [name for _, name, _ in found(registry)] == ["one", "two"]


def test_prompt_files(project: Write, registry: Registry) -> None:
    pytest.importorskip("lllm.tools.prompt_files")
    project("prompts/deep/report.md", "---\ndescription: A report.\n---\nWrite about {topic}.\n")
    project("prompts/README.md", "# Not a prompt\n")
    project("prompts/list.yaml", "- {path: x/one, prompt: one}\n- {path: x/two, prompt: two}\n")
    project("prompts/broken.yaml", "promt: x\n")
    project("proxies/other.yaml", "not: a prompt\n")
    report = auto_discover(registry=registry)
    assert sorted(entry.name for entry in report.found) == ["deep/report", "x/one", "x/two"]
    (problem,) = report.problems
    assert "broken.yaml" in problem.message


# --- what is left alone


def test_hidden_files_caches_and_circles(project: Write, registry: Registry) -> None:
    folder = project("prompts/a.py", PROMPT.format(path="a")).parent
    for name in (".hidden.py", "__pycache__/b.py", ".git/c.py", "venv/pyvenv.cfg", "notes.txt", "data.json"):
        project(f"prompts/{name}", "raise SystemExit('not this one')")
    project("prompts/venv/d.py", "raise SystemExit('not this one')")
    (folder / "loop").symlink_to(folder)
    (folder / "again.py").symlink_to(folder / "a.py")
    (folder / "deep").mkdir()
    (folder / "deep" / "up").symlink_to(folder.parent)
    (folder / "nowhere.py").symlink_to(folder / "missing.py")
    report = auto_discover(registry=registry)
    assert [entry.name for entry in report.found] == ["a"]
    assert [problem.message for problem in report.problems] == [
        "prompts/nowhere.py: a link that leads nowhere"
    ]


def test_a_link_to_a_folder_elsewhere_is_followed(project: Write, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "s.py").write_text(PROMPT.format(path="s"))
    folder = project("prompts/.keep", "").parent
    (folder / "shared").symlink_to(tmp_path / "shared")
    assert [name for _, name, _ in found(registry)] == ["s"]


def test_a_loaded_module_is_found_by_its_file(project: Write, registry: Registry) -> None:
    file = project("prompts/a.py", PROMPT.format(path="a"))
    for number in range(2):  # the second replaces the first under the same name
        spec = importlib.util.spec_from_file_location("another_name", file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["another_name"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with registry.scope(empty=True) as scope:
            auto_discover(registry=scope)
            assert scope.get("prompt", "a") is module.P, number
    assert "prompts.a" not in sys.modules


def test_other_modules_are_resolved_once_at_most(
    project: Write, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        project(f"prompts/m{number}/__init__.py", PROMPT.format(path=f"p{number}"))
    for number in range(500):
        module = sys.modules[f"many_{number}"] = ModuleType(f"many_{number}")
        module.__file__ = f"/no/where/many_{number}/__init__.py"
    asked: list[str] = []
    resolve = os.path.realpath
    monkeypatch.setattr(
        "os.path.realpath", lambda path, **more: asked.append(str(path)) or resolve(path, **more)
    )
    auto_discover(registry=registry)
    assert len(found(registry)) == 20
    assert len([path for path in asked if "many_" in path]) <= 500


# --- what is broken


def test_a_broken_file_does_not_hide_the_others(project: Write, registry: Registry) -> None:
    project("prompts/a.py", "x = (\n")
    project("prompts/b.py", "\nimport no_such_package\n")
    project("prompts/c.py", "\n\ndef f():\n    raise ValueError('no')\n\nf()\n")
    project("prompts/d.py", "import sys\nsys.exit(3)\n")
    project("prompts/e.py", "\xff")
    project("prompts/f.py", PROMPT.format(path="f"))
    project("prompts/g.py", "from prompts.c import f\n")
    project("prompts/h.i.py", "")
    report = auto_discover(registry=registry)
    assert [entry.name for entry in report.found] == ["f"]
    messages = [problem.message for problem in report.problems]
    assert messages[:4] == [
        "prompts/a.py:1: does not import: SyntaxError: '(' was never closed (a.py, line 1)",
        "prompts/b.py:2: does not import: ModuleNotFoundError: No module named 'no_such_package'",
        "prompts/c.py:4: does not import: ValueError: no",
        "prompts/d.py:2: does not import: SystemExit: 3",
    ]
    assert [message.partition(":")[0] for message in messages[4:]] == [
        "prompts/e.py",
        "prompts/g.py",
        "prompts/h.i.py",
    ]
    assert "a module's name has no dots" in messages[-1]


def test_a_broken_package_is_reported(project: Write, registry: Registry) -> None:
    project("prompts/pack/__init__.py", "1 / 0")
    project("prompts/pack/x.py", PROMPT.format(path="x"))
    project("prompts/y.py", PROMPT.format(path="y"))
    report = auto_discover(registry=registry)
    assert [entry.name for entry in report.found] == ["y"]
    assert report.problems[0].message.startswith(
        "prompts/pack/__init__.py:1: does not import: ZeroDivisionError"
    )


def test_a_missing_folder_is_reported(write: Write, registry: Registry) -> None:
    write("lllm.toml", "[discovery]\n\nprompts = ['promts']\n")
    assert said(registry) == ["lllm.toml:3: no such folder: promts"]


def test_problems_can_be_fatal(project: Write, registry: Registry) -> None:
    project("prompts/a.py", "1 / 0")
    with pytest.raises(ConfigError, match=r"prompts/a\.py:1: does not import"):
        auto_discover(strict=True, registry=registry)
    with (Path.cwd() / "lllm.toml").open("a") as file:
        file.write("strict = true\n")
    with pytest.raises(ConfigError, match=r"prompts/a\.py:1"):
        auto_discover(registry=registry)
    assert len(auto_discover(strict=False, registry=registry).problems) == 1


def test_two_things_with_one_name(project: Write, registry: Registry) -> None:
    project("prompts/a.py", PROMPT.format(path="same"))
    project("prompts/b.py", PROMPT.format(path="same"))
    (message,) = said(registry)
    assert "two prompts are named 'same': one from prompts/a.py:2, one from prompts/b.py:2" in message


def test_an_unknown_name_mentions_what_could_not_be_read(project: Write, registry: Registry) -> None:
    project("prompts/a.py", "1 / 0")
    auto_discover(registry=registry)
    with pytest.raises(UnknownNameError, match=r"(?s)Discovery had problems:.*prompts/a\.py:1"):
        registry.get("prompt", "task")


def test_no_project_finds_nothing(registry: Registry) -> None:
    assert auto_discover(registry=registry) == ((), ())


def test_a_bad_project_is_an_error(write: Write, registry: Registry) -> None:
    write("lllm.toml", "[discovry]")
    with pytest.raises(ConfigError, match="discovry"):
        auto_discover(registry=registry)


# --- the same object


def test_it_is_the_object_that_an_import_gives(project: Write, registry: Registry) -> None:
    project("prompts/deep/a.py", PROMPT.format(path="a"))
    auto_discover(registry=registry)
    assert importlib.import_module("prompts.deep.a").P is registry.get("prompt", "a")
    assert sys.path.count(str(Path.cwd())) == 1


def test_also_when_it_was_imported_before(
    project: Write, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project("prompts/a_lonely_name.py", PROMPT.format(path="a") + "import builtins\n").parent
    monkeypatch.syspath_prepend(folder)  # another name than the project's own
    module = importlib.import_module("a_lonely_name")
    auto_discover(registry=registry)
    assert registry.get("prompt", "a") is module.P
    assert "prompts.a_lonely_name" not in sys.modules


def test_also_in_a_package(write: Write, registry: Registry) -> None:
    root = write("project/lllm.toml", "[discovery]\nprompts = ['src/demo_pkg/prompts']").parent
    write("project/src/demo_pkg/__init__.py")
    write("project/src/demo_pkg/prompts/__init__.py")
    write("project/src/demo_pkg/prompts/a.py", "from ..base import BASE\n" + PROMPT.format(path="a"))
    write("project/src/demo_pkg/base.py", "BASE = 1")
    report = auto_discover(root, registry=registry)
    assert not report.problems
    assert importlib.import_module("demo_pkg.prompts.a").P is registry.get("prompt", "a")


def test_a_package_below_a_folder_of_the_path_has_its_own_name(
    write: Write, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a project is created within a checkout that is installed: its code imports itself by that name."""
    root = write("outer/project/lllm.toml", "[discovery]\nprompts = ['own_pkg/prompts']").parent
    write("outer/project/own_pkg/__init__.py", "")
    write("outer/project/own_pkg/words.py", "WORD = 'hello'\n")
    write("outer/project/own_pkg/prompts/__init__.py", "")
    write("outer/project/own_pkg/prompts/a.py", "from own_pkg.words import WORD\n" + PROMPT.format(path="a"))
    monkeypatch.syspath_prepend(root.parent)
    assert auto_discover(root, registry=registry).problems == ()
    assert importlib.import_module("own_pkg.prompts.a").P is registry.get("prompt", "a")


def test_also_when_the_package_can_be_imported_already(
    write: Write, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write("project/lllm.toml", "[discovery]\nprompts = ['src/demo_pkg']").parent
    write("project/src/demo_pkg/a.py", PROMPT.format(path="a"))  # a package without __init__
    monkeypatch.syspath_prepend(root / "src")
    before = list(sys.path)
    auto_discover(root, registry=registry)
    assert importlib.import_module("demo_pkg.a").P is registry.get("prompt", "a")
    assert sys.path == before


def test_a_name_that_belongs_to_somebody_else(write: Write, registry: Registry) -> None:
    write("lllm.toml", "[discovery]\nprompts = ['json', 'fine']")
    write("json/a.py", PROMPT.format(path="a"))
    write("fine/b.py", PROMPT.format(path="b"))
    report = auto_discover(registry=registry)
    assert [entry.name for entry in report.found] == ["b"]
    (problem,) = report.problems
    assert problem.where == "json/a.py"
    assert "Rename the folder" in str(problem.error)


def test_the_running_script_is_not_imported_twice(write: Write) -> None:
    write("lllm.toml", "[discovery]\nprompts = ['prompts']")
    script = write(
        "prompts/main.py",
        """
        from lllm.models.prompt import Prompt
        from lllm.registry import registry
        P = Prompt(path="main", prompt="x")
        print("once")
        if __name__ == "__main__":
            registry.arm()
            assert registry.get("prompt", "main") is P
        """,
    )
    done = subprocess.run([sys.executable, script], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "once\n"


# --- the first look


def test_an_armed_registry_discovers_at_the_first_look(
    project: Write, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    project("prompts/a.py", PROMPT.format(path="a"))
    project("prompts/b.py", "1 / 0")
    registry.arm()
    assert "prompts.a" not in sys.modules
    with caplog.at_level(logging.WARNING):
        assert registry.names("prompt") == ["a"]
    assert "prompts/b.py:1: does not import: ZeroDivisionError" in caplog.text
    assert registry.report is not None
    assert len(registry.report.problems) == 1


def test_a_call_counts_as_the_first_look(project: Write, registry: Registry) -> None:
    project("prompts/a.py", PROMPT.format(path="a"))
    look = "from lllm.registry import registry\nFOUND = registry.names('prompt')\n"
    project("prompts/b.py", look)
    registry.arm(lambda: pytest.fail("discovery was performed twice"))
    auto_discover(registry=registry)
    assert registry.names("prompt") == ["a"]


def test_a_strict_failure_does_not_count(project: Write, registry: Registry) -> None:
    project("lllm.toml", "[discovery]\nprompts = ['prompts']\nstrict = true")
    project("prompts/a.py", "1 / 0")
    registry.arm()
    for _ in range(2):
        with pytest.raises(ConfigError, match="ZeroDivisionError"):
            registry.names("prompt")


def test_what_discovery_imports_may_look(project: Write, registry: Registry) -> None:
    project("prompts/a.py", PROMPT.format(path="a"))
    look = "from lllm.registry import registry\nFOUND = registry.names('prompt')\nregistry.get('store', 'none')\n"
    project("prompts/b.py", look)
    registry.arm()
    assert registry.names("prompt") == ["a"]
    assert importlib.import_module("prompts.b").FOUND == ["a"]


@pytest.mark.parametrize("value", ["0", "false", "No", " off "])
def test_disarmed_it_executes_nothing(
    project: Write, registry: Registry, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    project("prompts/a.py", "raise SystemExit('executed')")
    project("lllm.toml", "not even TOML")
    monkeypatch.setenv("LLLM_AUTO_DISCOVER", value)
    registry.arm()
    assert registry.names("prompt") == []
    assert "prompts.a" not in sys.modules


def test_a_strange_switch_is_an_error(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLLM_AUTO_DISCOVER", "maybe")
    registry.arm()
    with pytest.raises(ConfigError, match="LLLM_AUTO_DISCOVER is 'maybe'; it wants 0 or 1"):
        registry.names("prompt")


def test_a_bad_variable_is_an_error_at_every_look(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLLM_CONFIG", "nowhere")
    registry.arm()
    for _ in range(2):
        with pytest.raises(ConfigError, match="LLLM_CONFIG: no such file"):
            registry.names("prompt")


def test_threads_see_all_of_it(project: Write, registry: Registry) -> None:
    for number in range(20):
        project(
            f"prompts/m{number}.py", "import time\ntime.sleep(0.002)\n" + PROMPT.format(path=f"p{number}")
        )
    registry.arm()
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(len(registry.names("prompt")))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert seen == [20] * 8


def test_the_environment_wins_over_the_argument(
    write: Write, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("one/lllm.toml", "[discovery]\nprompts=['prompts_one']")
    write("one/prompts_one/a.py", PROMPT.format(path="one"))
    write("two/lllm.toml", "[discovery]\nprompts=['prompts_two']")
    write("two/prompts_two/a.py", PROMPT.format(path="two"))
    monkeypatch.setenv("LLLM_CONFIG", os.fspath(Path("two")))
    assert [entry.name for entry in auto_discover("one", registry=registry).found] == ["two"]


def test_building_in_a_scope_discovers_nothing(project: Write, registry: Registry) -> None:
    project("prompts/a.py", "raise SystemExit('executed')")
    assert build_agent({"agent_configs": {"a": {"model": "scripted"}}}).agents
    assert registry.report is None
    registry.arm()
    assert build_agent({"agent_configs": {"a": {"model": "scripted"}}}).agents
    assert registry.report is not None
    assert len(registry.report.problems) == 1


def test_environments_are_found_in_modules_and_yaml_files(tmp_path: Path) -> None:
    from lllm.config.load import load_project
    from lllm.registry import Registry
    from tests.rl.project import make_project

    registry = Registry()
    report = auto_discover(load_project(make_project(tmp_path / "project")), registry=registry)
    assert not report.problems
    found = {entry.name: entry.where.rpartition("/")[2] for entry in report.found if entry.where}
    assert found == {
        "sums": "sums.py:20",
        "rl/products": "sums.py:23",
        "rl/needy": "sums.py:34",
        "rl/questions": "questions.yaml:1",
    }
    assert {entry.kind for entry in report.found} == {"environment"}
    summaries = {entry.name: entry.summary for entry in report.found}
    assert summaries["rl/questions"] == "Questions from a file."
    assert summaries["rl/products"] == "Multiplications."
