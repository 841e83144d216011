"""Router: a model reads what is asked, and chooses who answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lllm.errors import ConfigError
from lllm.llm.agent import Agent
from lllm.models.reply import Reply
from lllm.steps.branches import Route, route
from lllm.steps.function import FunctionStep


def router(
    system_id: str, model: Any, routes: Mapping[str, tuple[str, Any]], default: Any = None, **settings: Any
) -> Route:
    """A `route` whose choice is a model's: `router("desk", model, {"billing": ("invoices and refunds", billing), ...})`.

    The model is told what each route is for, and its reply can be nothing but one of the names (`format`), where the backend
    can hold it to that; any other reply is asked again, as of every agent.

    Args:
        system_id: its name. model: as for Agent. routes: what each is for, and the step, by name.
        default: for what fits none of them; the model may then choose `other`.
        settings: of the agent that chooses.
    """
    if not routes or not all(
        isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str) for one in routes.values()
    ):
        raise ConfigError(
            "a router needs routes, each with what it is for and its step",
            hint='Write router("desk", model, {"billing": ("invoices and refunds", agent), ...}).',
        )
    names = [*routes, *(() if default is None else ("other",))]
    known = "\n".join(f"- {name}: {about}" for name, (about, _) in routes.items())
    other = "" if default is None else "\n- other: none of these"
    schema = {
        "type": "object",
        "properties": {"route": {"type": "string", "enum": names}},
        "required": ["route"],
        "additionalProperties": False,
    }
    chooser = Agent(
        system_id,
        model,
        f"Choose who should answer the user's message. Do not answer it.\n{known}{other}",
        format=schema,
        **settings,
    )

    async def choose(value: Any) -> Any:
        text = value.content if isinstance(value, Reply) else value
        if not isinstance(text, str):
            raise ConfigError(f"'{system_id}' takes text, got {type(text).__name__}")
        reply = await chooser.acall([{"role": "user", "content": text}])
        return reply.parsed["route"]

    step = FunctionStep(choose)
    step.name, step.takes_list = system_id, False
    return route(step, {name: step for name, (_, step) in routes.items()}, default, name=system_id)
