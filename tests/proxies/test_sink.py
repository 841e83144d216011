"""What an agent produces, written to a database by a proxy: once, also where a session is resumed."""

import sqlite3
from pathlib import Path
from typing import Any

from lllm import Agent, BaseProxy, FunctionCall, MemoryLog, ScriptedBackend, ToolContext, arecord
from lllm.replay import resume_session
from tests.proxies.logged import events


class Orders(BaseProxy, register=False):
    """The orders of a shop, in SQLite."""

    file = ""

    @BaseProxy.endpoint(effect="idempotent")
    def place(self, article: str, context: ToolContext, count: int = 1) -> dict[str, Any]:
        """Places an order."""
        with sqlite3.connect(self.file) as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS orders (key TEXT PRIMARY KEY, article TEXT, count INTEGER)"
            )
            db.execute(
                "INSERT OR IGNORE INTO orders VALUES (?, ?, ?)", (context.idempotency_key, article, count)
            )
        db.close()
        return {"article": article, "count": count}


def rows(file: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(file) as db:
        found = db.execute("SELECT article, count FROM orders").fetchall()
    db.close()
    return found


def test_rows_are_written_once(tmp_path: Path) -> None:
    file = tmp_path / "orders.sqlite"
    store = MemoryLog()
    model = ScriptedBackend(
        lambda request: (
            "Done."
            if request.messages[-1].role == "tool"
            else [FunctionCall("1", "Orders__place", '{"article": "tea", "count": 2}')]
        )
    )
    ids: list[str] = []

    async def main() -> str:
        async with arecord("orders", store=store) as session:
            ids.append(session.id)
            agent = Agent("clerk", model, tools=[Orders(file=str(file))])
            return (await agent.acall("tea, please")).content

    import asyncio

    assert asyncio.run(main()) == "Done."
    assert rows(file) == [("tea", 2)]
    kinds = [event["kind"] for event in events(store, ids[0])]
    cut = MemoryLog()  # the process died after the row was written, before anybody noted it
    cut._sessions[ids[0]] = store._sessions[ids[0]][: kinds.index("ToolRequested") + 1]
    cut._blobs.update(store._blobs)
    assert resume_session(ids[0], store=cut, entry=main).result == "Done."
    assert rows(file) == [("tea", 2)]
