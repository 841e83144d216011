"""The team of team.yaml with a model that reads from a script, for what the small model cannot do: a hand-over and a note,
which you approve.

python -m system.rehearsal
"""

from collections.abc import Callable
from typing import Any, Final

from lllm import FunctionCall, ScriptedBackend, record

from system.system import ROOT, build

TASK: Final = "Please write down that 17 times 23 is 391."
SCRIPT: Final = [
    FunctionCall("", "transfer_to_archivist", '{"reason": "a note is to be written"}'),
    FunctionCall(
        "", "files__write", '{"path": "answers.md", "text": "17 times 23 is 391.\\n", "overwrite": true}'
    ),
    "It is written down in answers.md.",
]


def rehearse(approve: Callable[[FunctionCall], Any], **more: Any) -> str:
    """The team's answer to TASK. `approve` is asked about the note: True, or the reason why not."""
    team = build(ROOT / "config" / "%%name%%" / "team.yaml", model=ScriptedBackend(SCRIPT), **more)
    with record("rehearsal", store=team.store) as session:
        session.approve = approve
        return str(team(TASK))


def ask(call: FunctionCall) -> bool:
    """Asks at the terminal."""
    return input(f"{call.name} {call.arguments}\nMay it? [y/n] ").strip().lower() == "y"


if __name__ == "__main__":
    print(TASK)
    print(rehearse(ask))
