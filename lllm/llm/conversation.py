"""A conversation with the agents of a configuration (`lllm chat`): the agent that answered last gets the next message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lllm.config.problems import Problems, raise_errors
from lllm.core import events as ev
from lllm.core.dialog import extend
from lllm.llm.assembly import assemble_agent
from lllm.llm.team import Team
from lllm.llm.team_checks import check_links
from lllm.log.views import fold_session
from lllm.models.message import Message
from lllm.models.reply import Reply

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.agent import Agent
    from lllm.llm.dialog import Dialog
    from lllm.ports import Backend
    from lllm.session import Session


class Talkers(Team):
    """The agents as one talks to them: with the tools of their prompts, but without the prompts, whose form of reply is meant
    for programs.

    Args:
        model: replaces the models of all of them. system: replaces the system prompt of the agent `first`.
    """

    def __init__(self, config: Config, first: str, model: str | Backend | None, system: str | None) -> None:
        super().__init__(config, model=model)
        self._first, self._system = first, system

    def agent(self, name: str) -> Agent:
        """An agent by name, built when it is first wanted. ConfigError if it cannot be."""
        if name in self.agents:
            return self.agents[name]
        problems = Problems()
        made = assemble_agent(self.config, self.config.agent(name), problems, team=self)
        check_links(self, problems)
        raise_errors(list(problems))
        assert made is not None
        changes: dict[str, Any] = {}
        if made.prompt is not None and made.prompt.functions:
            changes["tools"] = (*made.tools, *made.prompt.functions)
        if self._system is not None and name == self._first:
            changes["system_prompt"] = self._system
        self.agents[name] = made.with_(**changes) if changes else made
        return self.agents[name]


class Conversation:
    """One dialog, in one session. After a hand-off it goes on with the agent that took over, in that agent's own dialog.

    Args:
        talkers: the agents. name: the one that gets the first message. past: messages of a conversation that this one
            continues.

    Attributes:
        agent: who gets the next message. dialog: what it has been told so far.
    """

    def __init__(self, talkers: Talkers, name: str, session: Session, past: Sequence[Message] = ()) -> None:
        self._talkers = talkers
        self._session = session
        self.agent: Agent = talkers.agent(name)
        self.dialog: Dialog = self.agent.init_dialog(session=session)
        if past:
            self._tell(past)

    def _tell(self, messages: Sequence[Message]) -> None:
        self.dialog.head, self.dialog.unsent = extend(None, messages), []

    def say(self, words: Any) -> Reply:
        """Gives a message to the agent, and returns its reply. On failure the dialog is as if nothing had been said."""
        before = list(self.dialog.unsent)
        self.dialog.append(words)
        try:
            reply = self.agent.call(self.dialog, session=self._session)
        except BaseException:
            self.dialog.unsent = before
            raise
        self._go_on_with(reply)
        return reply

    def _go_on_with(self, reply: Reply) -> None:
        if reply.agent in (None, self.agent.name):
            return
        assert reply.agent is not None
        theirs = reply
        while theirs.handed_over is not None:
            theirs = theirs.handed_over
        taken = self._talkers.agent(reply.agent)
        self.agent, self.dialog = taken, taken.init_dialog(session=self._session)
        if theirs is not reply:
            self._tell(theirs.messages)
        else:  # a fork was given the answer, and has not the other's own dialog
            self._tell([*taken._opening({}), *_without_system(reply.messages)])

    def renew(self, talkers: Talkers) -> None:
        """Continues with agents that are built again. The dialog stays, except for the system prompt."""
        agent = talkers.agent(self.agent.name)
        told = [*agent._opening({}), *_without_system(self.dialog.messages)]
        self._talkers, self.agent = talkers, agent
        if tuple(told) != tuple(self.dialog.messages):
            began = self.dialog.head is not None
            self.dialog = agent.init_dialog(session=self._session)
            if began:
                self._tell(told)


def _without_system(messages: Sequence[Message]) -> Iterator[Message]:
    """The messages behind the system prompt."""
    begun = False
    for message in messages:
        begun = begun or message.role not in ("system", "developer")
        if begun:
            yield message


def past(events: Sequence[Mapping[str, Any]]) -> tuple[str | None, tuple[Message, ...]]:
    """The agent that answered last in a recorded conversation, and its dialog; None and nothing if there was no reply."""
    folded = fold_session(events)
    done = [id for id, info in folded.infos.items() if info.parent is None and info.status == "done"]
    if not done:
        return None, ()
    call = done[-1]
    while (inner := _taken_over(events, call)) is not None and folded.calls[inner].trunk is not None:
        call = inner
    trunk = folded.calls[call].trunk
    return folded.infos[call].agent, () if trunk is None else trunk.messages()


def _taken_over(events: Sequence[Mapping[str, Any]], call: str) -> str | None:
    """The call that a call was handed over to; None if it answered itself, or the log has no such call."""
    handed = next(
        (
            event["data"]["id"]
            for event in reversed(events)
            if event["call"] == call and event["kind"] == ev.TOOL_RETURNED and "final" in event["data"]
        ),
        None,
    )
    within = (
        event["call"]
        for event in reversed(events)
        if event["kind"] == ev.CALL_STARTED
        and event["data"].get("parent") == call
        and event["data"].get("via") == handed
    )
    return None if handed is None else next(within, None)
