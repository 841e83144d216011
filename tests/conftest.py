"""What holds for every test: no network but loopback, an empty home, no settings or keys of its user.

The network switch is an audit hook, so it also sees the sockets that a library opens by itself. It covers
this process: a test that starts another one sees to it that there is nothing for it to call.

Hypothesis tries the same examples in every run, and minds no clock. New ones are looked for where somebody reads what
comes of it: `python -m pytest -n 2 --hypothesis-profile search`.
"""

import gc
import hashlib
import ipaddress
import itertools
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterable
from compileall import compile_dir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.embedded.forms import Forms

PRIVATE_PREFIXES = ("LLLM_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "HF_", "XDG_")
PRIVATE_SUFFIXES = ("_API_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_PROXY", "_proxy")
PRIVATE_NAMES = ("API_URL", "API_KEY", "MODEL_NAME", "MAX_TOKENS", "TEMPERATURE")
# Browsers are installed once per user, below the home folder that every test hides.
BROWSERS = os.environ.get("PLAYWRIGHT_BROWSERS_PATH", str(Path.home() / ".cache" / "ms-playwright"))


settings.load_profile("ci")  # the same examples in every run, and no deadline
settings.register_profile("search", settings.default, derandomize=False)
# Hypothesis also tries the constants of whatever is imported by then, which is not the same in every worker.
everything, nothing = providers._get_local_constants, providers._local_constants
providers._get_local_constants = lambda: nothing if settings.default.derandomize else everything()


class NetworkRefused(BaseException):
    """A test tried to leave this machine. Not an `Exception`, so that no retry or fallback swallows it."""


def stays_here(host: object, *, connecting: bool) -> bool:
    """Whether `host` means this machine. Only resolving a numeric address, whatever it is, sends nothing."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback or not connecting
    except ValueError:
        return name.lower() in ("", "localhost", socket.gethostname().lower())


def refuse_network(event: str, args: tuple[Any, ...]) -> None:
    """Raise where a socket is about to reach another machine."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        sock, address = args
        if address is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        host, allowed = address[0], stays_here(address[0], connecting=True)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host, allowed = args[0], stays_here(args[0], connecting=False)
    else:
        return
    if not allowed:
        raise NetworkRefused(
            f"{event} to {host!r}: tests only talk to this machine; serve a fake on 127.0.0.1"
        )


def pytest_configure(config: pytest.Config) -> None:
    sys.addaudithook(refuse_network)
    from lllm.config import importing

    # a test without a project has none, although its own code stands in the folder of one
    importing.folders = lambda: iter(())
    if os.environ.get("SEARCH_SECRETS"):
        from tests import suite_search

        config.pluginmanager.register(suite_search)
    if sys.dont_write_bytecode and not hasattr(config, "workerinput"):
        compile_dir(
            Path(__file__).parents[1] / "lllm", quiet=2
        )  # else every process of a test compiles it anew
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # so a shell starts what it puts into the background
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what this machine lacks: which tests were not run for that, and which ran in a weaker form, with their number."""
    found = Counter[str]()
    for report in terminalreporter.stats.get("skipped", ()):
        found[f"not run: {report.longrepr[-1].removeprefix('Skipped: ')}"] += 1
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if getattr(report, "when", "") == "call":
            found.update(words for name, words in report.user_properties if name == "instead")
    if found:
        terminalreporter.section("not run on this machine, or not as elsewhere")
    for words, count in found.most_common():
        terminalreporter.write_line(f"{count} test{'s' * (count > 1)} {words}")


def pytest_collection_finish() -> None:
    gc.freeze()  # what the modules of all tests hold, torch too, is there to stay: looking at it takes 0.4 s each time


_homes: list[Path] = []


def _empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the home of the test before, where nothing was written there, else a new one. Making and removing
    thousands of folders keeps the disk busy for a minute."""
    if _homes and _homes[-1].is_dir() and not any(_homes[-1].iterdir()):
        return _homes[-1]
    _homes[:] = [tmp_path_factory.mktemp("home")]
    return _homes[-1]


@pytest.fixture(autouse=True)
def nobodys_machine(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> "Iterator[Path]":
    """Start the test in an empty home folder that is also the working folder, with a bare environment. Modules of projects that
    it makes are forgotten afterwards: another test's project has the same names."""
    modules = set(sys.modules)
    for name in list(os.environ):
        if name in PRIVATE_NAMES or name.startswith(PRIVATE_PREFIXES) or name.endswith(PRIVATE_SUFFIXES):
            monkeypatch.delenv(name)
    if (environ := sys.modules.get("lllm.config.environ")) is not None:
        environ.forget()  # the keys of other tests are ordinary words here
    home = _empty_home(tmp_path_factory)
    monkeypatch.chdir(home)
    for name, value in {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "PLAYWRIGHT_BROWSERS_PATH": BROWSERS,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "TZ": "UTC",
    }.items():
        monkeypatch.setenv(name, value)
    yield home
    made = f"{tmp_path_factory.getbasetemp()}{os.sep}"
    for name in set(sys.modules) - modules:
        path = getattr(sys.modules[name], "__path__", None)
        within = (
            list(path) if isinstance(path, Iterable) else []
        )  # some packages make anything of a name, paths too
        if any(
            str(place).startswith(made) for place in [getattr(sys.modules[name], "__file__", ""), *within]
        ):
            del sys.modules[name]


_unrecorded: list[str] = []


@pytest.fixture(scope="session", autouse=True)
def _events_are_checked() -> "Iterator[None]":
    from lllm.core.canonical import decode
    from lllm.core.records import RECORDS
    from lllm.core.shapes import misfit
    from lllm.session import Session

    write = Session.write

    def checked(session: Session, event: Any) -> None:
        write(session, event)
        if session.logs:
            data = event.data if event.encoded is None else decode(event.encoded)
            if (
                wrong := misfit(data, RECORDS[event.kind], closed=True)
                if event.kind in RECORDS
                else "no record"
            ):
                _unrecorded.append(f"{event.kind}: {wrong}")

    Session.write = checked  # type: ignore[method-assign]
    yield
    Session.write = write  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def events_fit_their_records(request: pytest.FixtureRequest) -> "Iterator[None]":
    """Fails a test whose sessions write what `lllm.core.records` does not declare. `@pytest.mark.odd_events` is for tests
    that write such events by hand."""
    _unrecorded.clear()
    yield
    found = sorted(set(_unrecorded))
    _unrecorded.clear()
    if request.node.get_closest_marker("odd_events") is None:
        assert not found, "\n".join(found)


@pytest.fixture
def without_torch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides torch from the processes that a test starts. `lllm doctor` imports it to try it, which takes seconds."""
    folder = tmp_path_factory.mktemp("without-torch")
    (folder / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture(scope="session")
def forms(tmp_path_factory: pytest.TempPathFactory) -> "Forms":
    """The embedded model as GGUF (`gguf_q8`, `gguf_f16`, `gguf_f32`) and as a `folder` for transformers. Made once for
    all workers, and found again where an earlier run has left them."""
    from training.embedded import forms
    from training.embedded.weights import GGUF_NAME, WEIGHTS

    made_of = [WEIGHTS / GGUF_NAME, WEIGHTS / "tokenizer.json", WEIGHTS / "chat_template.jinja"]
    sums = [hashlib.sha256(path.read_bytes()).digest() for path in (*made_of, Path(forms.__file__))]
    name = f"forms-{hashlib.sha256(b''.join(sums)).hexdigest()[:16]}"
    return forms.make(tmp_path_factory.getbasetemp().parent / name)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[str]":
    """The address of a Postgres server of this test run, which all workers share. Fails where there is none to start."""
    from tests.servers import postgres

    base = tmp_path_factory.getbasetemp()
    with postgres.shared((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "postgres") as url:
        yield url
