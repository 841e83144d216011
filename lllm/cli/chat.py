"""`lllm chat`: a talk with one agent, in one session, one dialog."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from lllm.cli import output, screen
from lllm.cli.approvals import Approve
from lllm.cli.live import Live, Pretty
from lllm.cli.options import (
    ConfigFile,
    Model,
    Profile,
    Sets,
    naming,
    overrides_of,
    runnable,
    session_of,
    store_of,
    way_to,
)
from lllm.errors import ConfigError, LogError, UnknownNameError, listing, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from lllm.config import AgentConfig, Config
    from lllm.llm.conversation import Talkers
    from lllm.models.message import Message
    from lllm.ports import LogStore, SessionInfo
    from lllm.session import Session

COMMANDS: Final = {
    "/help": "list the commands",
    "/session": "the session's id, and the command to show it",
    "/exit": "leave (also Ctrl-D)",
}
ALSO: Final = {"/quit": "/exit", "/?": "/help"}


def chat(
    config: ConfigFile = None,
    model: Model = None,
    system: Annotated[str | None, typer.Option("--system", help="The system prompt.")] = None,
    name: Annotated[
        str | None, typer.Option("--agent", help="Which agent of the configuration to talk to.")
    ] = None,
    going_on: Annotated[
        str | None,
        typer.Option(
            "--continue", metavar="[ID]", help="Continue a chat, by default the newest, in a new session."
        ),
    ] = None,
    approve: Approve = None,
    pretty: Pretty = False,
    sets: Sets = None,
    profile: Profile = None,
) -> int:
    """Talk with an agent. /help lists the commands; Ctrl-C stops a reply, Ctrl-D leaves."""
    from lllm.config.problems import raise_errors
    from lllm.discovery import auto_discover
    from lllm.llm.conversation import Talkers, past
    from lllm.llm.sessions import open_session
    from lllm.llm.talk import described

    overrides = overrides_of(sets, profile)
    loaded = runnable(config, overrides=overrides)
    old: SessionInfo | None = None
    messages: Sequence[Message] = ()
    if going_on is not None:
        if system is not None:
            raise ConfigError(
                "--system and --continue: the chat has its system prompt", hint="Omit one of them."
            )
        from lllm.log.views import load

        store = store_of(loaded)
        old = chat_of(store, going_on)
        last, messages = past(load(store, old.id))
        answered = name is None and last
        loaded, overrides, name, model = _as_it_was(old.meta["entry"], loaded, config, overrides, name, model)
        name = last if answered and last in loaded.agents else name
    declared = chosen(loaded, name)
    with naming("--model", model):
        talkers = Talkers(loaded, declared.name, model, system)
        agent = talkers.agent(declared.name)
    entry = described(loaded, agent, overrides, model, system, continues=old and old.id)
    way = way_to(loaded) if overrides else ""
    output.reached(way)
    eyes = screen.is_terminal(sys.stdin) and screen.is_terminal(sys.stdout)
    live = open_session(f"chat-{declared.name}", store=store_of(loaded), seed=loaded.random_seed)
    shown = Live(approve=approve, chat=eyes, stream=eyes, pretty=pretty)
    shown.attach(live)

    def anew(changed: Sequence[str]) -> tuple[Config, Talkers]:
        fresh = runnable(config or loaded.file, overrides=overrides)
        if fresh.project_file is not None:
            report = auto_discover(fresh, strict=False)
            raise_errors([one for one in report.problems if any(name in str(one) for name in changed)])
        return fresh, Talkers(fresh, declared.name, model, system)

    meta = {"name": f"chat-{declared.name}", "entry": entry}
    talk = Talk(Source(loaded, talkers, declared.name, anew), live, shown, meta, messages)
    talk.run(eyes, way)
    if live.started and (eyes or way):
        output.say(f"session {live.id}. To look at it: {way}lllm show {live.id}")
        if eyes:
            output.say("  To continue it: lllm chat --continue")
    return 0


def chosen(config: Config, name: str | None) -> AgentConfig:
    """The agent to talk to: the one that is named, or the one that a plain run begins with."""
    if name is not None:
        if name not in config.agents:
            raise UnknownNameError("agent", name, config.agents, where="--agent")
        return config.agent(name)
    from lllm.llm.team import Team

    try:
        return config.agent(Team(config).start())
    except ConfigError as error:
        if config.start is not None or not config.agents:
            raise
        raise ConfigError(
            f"{len(config.agents)} agents are declared",
            hint=f"Type --agent and one of {listing(config.agents)}.",
        ) from error


def chat_of(store: LogStore, given: str) -> SessionInfo:
    """The chat to continue: the newest, or the named one.

    Raises:
        ConfigError: there is no chat, or the session is not one.
    """
    id = session_of(store, given) if given else None
    for info in store.sessions() if id is None else store.sessions(prefix=id):
        if (info.meta.get("entry") or {}).get("kind") == "chat" and id in (None, info.id):
            return info
    if id is None:
        raise ConfigError("there is no chat to continue", hint="Type: lllm chat")
    raise ConfigError(f"session '{id}' is not a chat", hint=f"Look at it: lllm show {id}")


def _as_it_was(
    entry: Mapping[str, Any],
    loaded: Config,
    config: ConfigFile,
    overrides: list[str],
    name: str | None,
    model: str | None,
) -> tuple[Config, list[str], str | None, str | None]:
    """Configuration, settings, agent and model of an old chat, where the command line says nothing else."""
    from lllm.replay.rerun_config import file_of

    overrides = [*entry.get("set", ()), *overrides]
    file = config or file_of(entry)
    if file is not None or overrides:
        loaded = runnable(file, overrides=overrides)
    return loaded, overrides, name or entry["agent"], model or entry.get("model")


class Source(NamedTuple):
    """Where the agents of a chat come from. `name`: the one that gets the first message; `anew`: reads all of it again,
    told of the files that have changed; raises ConfigError for what is wrong with them."""

    config: Config
    talkers: Talkers
    name: str
    anew: Callable[[Sequence[str]], tuple[Config, Talkers]]


class Talk:
    """One conversation. The session starts with its first message, which is its task.

    Args:
        meta: further fields of the session's start.
        past: messages of the chat that this one continues.
    """

    def __init__(
        self, source: Source, live: Session, shown: Live, meta: Mapping[str, Any], past: Sequence[Message]
    ) -> None:
        from lllm.llm.conversation import Conversation
        from lllm.llm.reload import Watch

        self._source = source
        self._watch = Watch(source.config)
        self._live = live
        self._shown = shown
        self._meta = meta
        self._past = past
        self._replying = False
        self._talking = Conversation(source.talkers, source.name, live, past)

    def run(self, eyes: bool, way: str) -> None:
        """Reads and answers messages until the input ends. Ends the session with the matching status."""
        from lllm.llm.sessions import fail
        from lllm.session import Scope, current
        from lllm.sync import run

        live = self._live
        output.writes(lambda: live.id if live.durable else None)
        token = current.set(Scope(live))
        try:
            if eyes:
                self._person(way)
            else:
                self._pipe()
        except BaseException as error:
            if live.started:
                run(fail(live, error))
                interrupted = not isinstance(error, Exception) and eyes
                next_ = f"To continue the chat: {way}lllm chat --continue" if interrupted else None
                output.belongs(error, live.id, next_)
            raise
        else:
            if live.started:
                run(live.end("done"))
        finally:
            current.reset(token)
            output.writes(None)

    def _pipe(self) -> None:
        """One message per line. The first message without a reply ends the chat, because nobody can react to it."""
        for line in sys.stdin:
            words = line.strip()
            if ALSO.get(words, words) == "/exit":
                return
            if words:
                output.text(self._reply(words))
                sys.stdout.flush()

    def _person(self, way: str) -> None:
        from lllm.cli.keyboard import Typed

        keyboard = Typed((*COMMANDS, *ALSO))
        agent = self._talking.agent
        output.say(
            f"{agent.name} on {agent.model}. /help lists the commands; Ctrl-C stops a reply, Ctrl-D leaves."
        )
        self._recall()
        leaving = False
        while True:
            self._replying = False
            try:
                words = keyboard.line("> ").strip()
                leaving = False
                if (command := ALSO.get(words, words)) == "/exit":
                    return
                if _is_command(words):
                    self._command(command, way)
                elif words:
                    before = self._talking.agent.name
                    reply = self._reply(words[1:] if words.startswith("//") else words)
                    self._shown.answer(reply)
                    if (now := self._talking.agent.name) != before:
                        output.say(f"({now} answers from here on)")
            except EOFError:
                output.write("")
                return
            except KeyboardInterrupt:
                if leaving:
                    output.say("")
                    raise
                leaving = True
                output.say(f"\n({'stopped; ' if self._replying else ''}Ctrl-C again to leave)")
            except LogError:
                raise  # a chat that cannot be logged must not continue
            except Exception as error:
                output.problem(error)

    def _reply(self, words: str) -> str:
        """Returns the agent's reply. On failure the dialog is unchanged, as if the message had not been sent."""
        from lllm.sync import run

        live = self._live
        taken = self._take_changes()
        if not live.started:
            meta = live.redactor.clean({**self._meta, "task": words})
            run(live.start(meta))
        if taken:
            live.note(f"read again: {', '.join(taken)}", of="reload", changed=taken)
        self._replying = True
        try:
            return self._talking.say(words).content
        finally:
            self._shown.close()

    def _take_changes(self) -> list[str]:
        """Reads the agents again where YAML or prompts have changed, and returns the files; what cannot be read is shown, and
        the agents stay as they are. Says which modules have changed: they are taken at the next start."""
        from lllm.config.layer import shown

        found = self._watch.changes()
        for path in found.modules:
            output.say(f"{shown(path)} has changed: restart to take it")
        if not found.files:
            return []
        names = [shown(path) for path in found.files]
        try:
            config, talkers = self._source.anew(names)
            self._talking.renew(talkers)
        except ConfigError as error:
            output.warn(f"{', '.join(names)} changed and cannot be used: {error.message}", error.hint)
            return []
        self._source = self._source._replace(config=config, talkers=talkers)
        self._watch.take(config)
        output.say(f"read again: {', '.join(names)}")
        return names

    def _command(self, word: str, way: str) -> None:
        if word == "/session" and self._live.started:
            output.say(f"session {self._live.id}. To look at it: {way}lllm show {self._live.id}")
        elif word == "/session":
            output.say("the session begins with the first message")
        elif word == "/help":
            wide = max(map(len, COMMANDS))
            output.say("\n".join(f"{name.ljust(wide)}  {about}" for name, about in COMMANDS.items()))
            output.say(
                "Up and Down bring back earlier lines. Type a message that begins with / with two slashes: //"
            )
        else:
            close = nearest(word, COMMANDS)
            output.say(f"unknown command {word}. {f'Did you mean {close}?' if close else 'Type /help'}")

    def _recall(self) -> None:
        """Shows the end of the continued chat."""
        from lllm.models.parts import content_text

        for message in self._past[-2:]:
            if text := content_text(message.content):
                output.say(f"{'> ' if message.role == 'user' else ''}{text}")


def _is_command(words: str) -> bool:
    """True if a line is a command: one word with one slash, so that `/etc/hosts` and `/ is a path` are messages."""
    return (words.startswith("/") and words[1:].isalpha()) or words in ALSO
