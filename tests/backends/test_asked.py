"""The kept requests of a scripted backend read as they came, however dialogs fork."""

from __future__ import annotations

import random

from lllm.backends.asked import KEPT, Requests
from lllm.models.message import Message, user
from lllm.ports import Request


def test_requests_read_as_they_came() -> None:
    chance = random.Random(3)
    kept, came = Requests(), list[Request]()
    dialogs = [[user("a")]]
    for number in range(1500):
        dialog: list[Message] = list(chance.choice(dialogs[-6:]))
        what = chance.random()
        if what < 0.1:
            dialog = [user(f"another {number}")]
        elif what < 0.6:
            dialog += [user("x" * chance.randrange(9)) for _ in range(chance.randrange(40))]
        elif what < 0.9:
            dialog = [*dialog[: chance.randrange(1, len(dialog) + 1)], user("b")]
        dialogs.append(dialog)
        came.append(Request("m", tuple(dialog)))
        assert kept.add(came[-1]) == sum(len(message.text) for message in dialog)
    assert max(len(request.messages) for request in came) > 100
    assert kept == came
    assert kept[-3:] == came[-3:]
    assert kept[-1] == came[-1]
    assert all(a is b for a, b in zip(kept, came, strict=True) if len(b.messages) < 64)


def test_a_repair_in_every_turn_takes_no_more_room_than_its_messages() -> None:
    kept = Requests()
    trunk: list[Message] = [user("a")]
    for number in range(300):
        trunk += [user(f"reply {number}"), user(f"question {number}")]
        kept.add(Request("m", tuple(trunk)))
        kept.add(Request("m", (*trunk, user("bad"), user("again"))))
    assert (
        sum(len(line.messages) for line in {id(line): line for _, line, _ in kept._kept if line}.values())
        < 5 * 300
    )
    assert len(kept[-1].messages) == 603


def test_the_newest_requests_are_kept() -> None:
    kept = Requests()
    for number in range(KEPT + 5):
        kept.add(Request("m", (Message("user", str(number)),)))
    assert len(kept) == KEPT
    assert (kept[0].messages[0].text, kept[-1].messages[0].text) == ("5", str(KEPT + 4))
