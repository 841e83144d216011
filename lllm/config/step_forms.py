"""The forms that a stage of `steps:` may have, and the keys of each. The JSON Schema for editors is made from them; the steps
themselves are in `lllm.steps.declared`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lllm.config.keys import BUDGET, RETRY
from lllm.config.kinds import NAME, PATH, POSITIVE, Kind, choice
from lllm.models.function import EFFECTS

ERRORS: Final = choice("raise", "keep", "drop")

STAGE: Final = Kind(
    "a stage: the name of an agent or of a registered step, module:function, a list of stages, or one of parallel, map, join, "
    "route, loop, retry, fallback, budget, to_jsonl, to_sqlite, to_parquet, sink, step",
    {"$ref": "#/$defs/stage"},
)
STAGES: Final = Kind("a list of stages", {"type": "array", "items": {"$ref": "#/$defs/stage"}, "minItems": 1})
BRANCHES: Final = Kind(
    "stages by name, or a list of stages",
    {
        "anyOf": [
            {
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/stage"},
                "minProperties": 1,
            },
            STAGES.schema,
        ]
    },
)
ROUTES: Final = Kind(
    "stages by what `choose` gives",
    {"type": "object", "additionalProperties": {"$ref": "#/$defs/stage"}, "minProperties": 1},
)
FUNCTION: Final = Kind(
    "module:function or the name of a registered step, or null for the results as they are",
    {"type": ["string", "null"]},
)

SINK_FUNCTION: Final = Kind("module:function or the name of a registered step", NAME.schema)
SINK_PATH: Final = Kind("a path", PATH.schema)


class Option(NamedTuple):
    """A key of a form."""

    kind: Kind
    about: str
    required: bool = False


class Form(NamedTuple):
    """One form of a stage: `NAME: VALUE`.

    Attributes:
        about: what it does. value: what stands behind its name; None where that is a mapping with `options`.
        beside: keys that may stand beside its name. some: of these keys at least one is required.
    """

    about: str
    value: Kind | None = None
    options: Mapping[str, Option] = {}
    beside: Mapping[str, Option] = {}
    some: tuple[str, ...] = ()

    @property
    def short(self) -> bool:
        """True if the stage within it may stand for its keys, of which no other is required: `map: writer`."""
        return (
            self.value is None
            and not self.some
            and [key for key, one in self.options.items() if one.required] == ["step"]
        )


_NAME: Final = Option(NAME, "What events and errors call it.")
_ERRORS: Final = Option(ERRORS, "What becomes of what fails: `raise` stops all, `keep`, or `drop`.")
_STEP: Final = Option(STAGE, "The stage within it.", True)

FORMS: Final[Mapping[str, Form]] = {
    "parallel": Form(
        "The same value to all of them, side by side.", BRANCHES, beside={"errors": _ERRORS, "name": _NAME}
    ),
    "join": Form(
        "A function of the results of branches: as keywords where they have names, else as a list.",
        FUNCTION,
        beside={"errors": _ERRORS, "name": _NAME},
    ),
    "map": Form(
        "A stage for each item of what the stage before it gave.",
        options={
            "step": _STEP,
            "limit": Option(POSITIVE, "So many items at once (16)."),
            "errors": _ERRORS,
            "name": _NAME,
        },
    ),
    "route": Form(
        "One of several stages.",
        options={
            "choose": Option(STAGE, "Gives the name of the route.", True),
            "routes": Option(ROUTES, "The stages by their names.", True),
            "default": Option(STAGE, "The stage for any other name."),
            "name": _NAME,
        },
    ),
    "loop": Form(
        "A stage on its own result, again and again.",
        options={
            "step": _STEP,
            "until": Option(STAGE, "Says of a result whether it is enough."),
            "times": Option(POSITIVE, "So often at most.", True),
            "at_most": Option(choice("give", "raise"), "After so often: `give` the last result, or `raise`."),
            "name": _NAME,
        },
    ),
    "retry": Form(
        "A stage that is run again where it fails.",
        options={
            "step": _STEP,
            **{name: Option(key.kind, key.about) for name, key in RETRY.items()},
            "name": _NAME,
        },
    ),
    "fallback": Form("The first of several stages that does not fail.", STAGES, beside={"name": _NAME}),
    "budget": Form(
        "A stage that may use no more than so much.",
        options={"step": _STEP, **{name: Option(key.kind, key.about) for name, key in BUDGET.items()}},
        some=tuple(BUDGET),
    ),
    "to_jsonl": Form("Appends what passes to a file, as lines of JSON.", SINK_PATH, beside={"name": _NAME}),
    "to_sqlite": Form(
        "Inserts what passes into a table of SQLite.",
        options={
            "path": Option(SINK_PATH, "The database, a file.", True),
            "table": Option(NAME, "The table (rows)."),
            "name": _NAME,
        },
    ),
    "to_parquet": Form(
        "Writes what passes to a Parquet file, when the run or the batch has ended.",
        SINK_PATH,
        beside={"name": _NAME},
    ),
    "sink": Form(
        "Calls a function with what passes.",
        SINK_FUNCTION,
        beside={
            "effect": Option(choice(*EFFECTS), "Whether it is called again after a crash (ask)."),
            "name": _NAME,
        },
    ),
    "step": Form("A stage under another name.", STAGE, beside={"name": Option(NAME, _NAME.about, True)}),
}
"""Every form of a stage that is more than a name or a list."""


def definitions() -> dict[str, Any]:
    """`$defs` of the JSON Schema: a stage and a list of them."""
    forms = [_schema(name, form) for name, form in FORMS.items()]
    words = {
        "type": "string",
        "pattern": r"\S",
        "description": "An agent, a registered step, or module:function.",
    }
    return {"stage": {"anyOf": [words, dict(STAGES.schema), *forms]}, "steps": dict(STAGES.schema)}


def _schema(name: str, form: Form) -> dict[str, Any]:
    if form.value is not None:
        own = dict(form.value.schema)
    else:
        own = _object(form.options)
        if form.some:
            own["anyOf"] = [{"required": [key]} for key in form.some]
        own = {"anyOf": [dict(STAGE.schema), own]} if form.short else own
    properties = {name: {"description": form.about, **own}, **_object(form.beside)["properties"]}
    required = [name, *(key for key, one in form.beside.items() if one.required)]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _object(options: Mapping[str, Option]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: {"description": one.about, **_value(one.kind)} for key, one in options.items()},
        "required": [key for key, one in options.items() if one.required],
        "additionalProperties": False,
    }


def _value(kind: Kind) -> dict[str, Any]:
    """The schema of an option; a number may also be a ${NAME}."""
    schema = dict(kind.schema)
    if schema.get("type") in ("integer", "number"):
        return {"anyOf": [schema, {"type": "string", "pattern": r"\$\{"}]}
    return schema


def in_line(stages: Any) -> str:
    """Stages in one line, as they are written: `clean >> parallel(poem, facts) >> join`."""
    if isinstance(stages, str):
        return stages.rpartition(":")[2] or stages
    if isinstance(stages, list | tuple):
        return " >> ".join(map(in_line, stages))
    if not isinstance(stages, dict):
        return "?"
    form = next((name for name in FORMS if name in stages), "?")
    own = stages.get(form)
    if form in ("parallel", "fallback"):
        inner = own.values() if isinstance(own, dict) else own if isinstance(own, list) else ()
        return f"{form}({', '.join(map(in_line, inner))})"
    if form in ("join", "step"):
        return str(stages.get("name") or (in_line(own) if own is not None else form))
    if form == "route" and isinstance(own, dict):
        routes = own.get("routes")
        inner = list(routes.values()) if isinstance(routes, dict) else []
        return f"route({', '.join(map(in_line, [*inner, *([own['default']] if 'default' in own else [])]))})"
    if form == "to_sqlite" and isinstance(own, dict):
        return f"to_sqlite({own.get('path')})"
    if form in ("to_jsonl", "to_parquet"):
        return f"{form}({own})"
    within = own.get("step") if isinstance(own, dict) and "step" in own else own
    return f"{form}({in_line(within)})"
