"""The team of team.yaml with a model that reads from a script, for what the small model cannot do: a hand-over and a note,
which you approve.

python -m system.rehearsal
"""

from collections.abc import Callable
from typing import Any, Final

from lllm import FunctionCall, ScriptedBackend, record
from lllm.ports import Request

from system.system import ROOT, build

TASK: Final = "Please write down that 17 times 23 is 391."
HAND_OVER: Final = FunctionCall("", "transfer_to_archivist", '{"reason": "a note is to be written"}')
WRITE: Final = FunctionCall(
    "", "files__write", '{"path": "answers.md", "text": "17 times 23 is 391.\\n", "overwrite": true}'
)


def script(request: Request) -> FunctionCall | str:
    """The next reply, from what the model was sent last."""
    last = request.messages[-1].text
    if last == TASK:
        return HAND_OVER
    if "handed over to you" in last:
        return WRITE
    return "It is written down in answers.md." if '"diff"' in last else "It may not be written down."


def rehearse(approve: Callable[[FunctionCall], Any], **more: Any) -> str:
    """The team's answer to TASK. `approve` is asked about the note: True, or the reason why not."""
    team = build(ROOT / "config" / "%%name%%" / "team.yaml", model=ScriptedBackend(script), **more)
    with record("rehearsal", store=team.store) as session:
        session.approve = approve
        return str(team(TASK))


def ask(call: FunctionCall) -> bool:
    """Asks at the terminal."""
    return input(f"{call.name} {call.arguments}\nMay it? [y/n] ").strip().lower() == "y"


if __name__ == "__main__":
    print(TASK)
    print(rehearse(ask))
