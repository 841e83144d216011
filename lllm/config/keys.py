"""Every key of lllm.toml and of a system's YAML file, with what it may hold, its default and what it does.

These tables are the truth. Files are validated against them (`validate.py`); the JSON Schema for editors and the page
`docs/reference/configuration.md` are made from them (`schemas.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lllm.config.kinds import (
    APPROVAL,
    CONTEXT,
    COPIES,
    COUNT,
    DATE,
    DEPTH,
    EXCEPTIONS,
    FLAG,
    FORMAT,
    FREE,
    LIMIT,
    MEMORY,
    MONEY,
    NAME,
    NAME_OR_NONE,
    NAMES,
    NAMES_OR_NONE,
    PATH,
    PATH_OR_PATHS,
    PATHS,
    POSITIVE,
    PRICE,
    PROMPT,
    RESULT,
    SECONDS,
    SEED,
    SHARE,
    STEPS,
    STOPS,
    TAGS,
    TEMPERATURE,
    TEXT,
    TIME_LIMIT,
    VARIABLES,
    WAIT,
    WHOLE,
    WINDOW,
    Kind,
    choice,
)


class Key(NamedTuple):
    """A key with a value. `default` is None if an omitted key means that there is nothing. `later`: this version does not
    support it; it must be empty."""

    kind: Kind
    about: str
    default: Any = None
    later: bool = False


class Section(NamedTuple):
    """A key with keys below it. With `each`, the keys directly below are user-chosen names (`each` says of what), and
    `keys` are below each of them. `later` as of a Key. `open`: further keys are the user's own, as below a FREE key."""

    about: str
    keys: Mapping[str, Key | Section]
    each: str | None = None
    later: bool = False
    open: bool = False


LIMITS: Final[Mapping[str, Key | Section]] = {
    "max_exception_retry": Key(
        COUNT, "Repairs per model turn: how often a malformed reply is asked for again.", 3
    ),
    "max_interrupt_times": Key(LIMIT, "Tool rounds per call; then tools are withdrawn. 0: no tools.", 5),
    "max_llm_recall": Key(COUNT, "Further tries after a provider fault that does not look worth a retry.", 0),
    "max_provider_retry": Key(
        COUNT, "Further tries after a provider fault that does (429, 5xx, timeouts).", 4
    ),
    "max_model_calls": Key(LIMIT, "Requests to models in one call and by agents within it, all in all."),
    "max_tokens_total": Key(
        LIMIT, "Prompt and completion tokens in one call and by agents within it, all in all."
    ),
    "max_cost": Key(MONEY, "What one call may cost, with the agents within it."),
    "deadline": Key(TIME_LIMIT, "Seconds that one call may take, with the agents within it."),
    "backoff_base": Key(
        WAIT, "The first wait after a provider fault; it doubles with each further one.", 0.5
    ),
    "backoff_cap": Key(WAIT, "The longest such wait.", 30.0),
    "repeat_limit": Key(
        COPIES, "A reply that ends in so many copies of the same stretch is stopped; 8 is a good number."
    ),
    "max_result_chars": Key(
        RESULT,
        "Characters of one tool result that the model sees, 1,000 or more; it can read the rest with `read_result`.",
        50_000,
    ),
    "max_handoffs": Key(
        COUNT, "Hand-offs in a row, from the agent that was called; then they are refused.", 5
    ),
    "max_depth": Key(
        DEPTH,
        "Calls of this agent within one another; required where it reaches itself through sub-agents.",
    ),
}

BUDGET: Final[Mapping[str, Key]] = {
    "max_cost": Key(MONEY, "What all of it may cost, in US dollars."),
    "max_tokens_total": Key(LIMIT, "Prompt and completion tokens, all in all."),
    "max_model_calls": Key(LIMIT, "Requests to models, all in all."),
    "deadline": Key(TIME_LIMIT, "Seconds that it may take."),
}
"""The budget of a chain, or of a stage."""

TIMEOUTS: Final[Mapping[str, Key | Section]] = {
    "connect": Key(TIME_LIMIT, "Until the endpoint takes the connection.", 10.0),
    "first_token": Key(TIME_LIMIT, "From the request to the first piece of a streamed reply.", 120.0),
    "idle": Key(TIME_LIMIT, "Between two pieces of a streamed reply.", 60.0),
    "total": Key(TIME_LIMIT, "One request, all in all.", 600.0),
}

RETRY: Final[Mapping[str, Key]] = {
    "times": Key(POSITIVE, "Tries, the first included (3)."),
    "wait": Key(WAIT, "Seconds before the second try; each later wait is twice as long (0.5; of a step 0)."),
    "cap": Key(WAIT, "The longest such wait (30)."),
    "jitter": Key(SHARE, "The share of a wait that is left to chance (0.5; of a step 0)."),
    "on": Key(EXCEPTIONS, "After which errors; by default after those that say they are retryable."),
    "retry_after": Key(
        FLAG, "Whether the time that a server asks to wait takes the place of the wait (true)."
    ),
    "total": Key(SECONDS, "Seconds from the beginning of the first try, after which no other begins."),
}
"""The parts of a retry policy."""

SAMPLING: Final[Mapping[str, Key | Section]] = {
    "temperature": Key(TEMPERATURE, "Randomness of the reply; the model's own default where left out."),
    "top_p": Key(SHARE, "Nucleus sampling: the share of probability to draw from."),
    "max_tokens": Key(POSITIVE, "The longest reply, in tokens. `max_completion_tokens` is the same key."),
    "stop": Key(STOPS, "Where the reply ends."),
    "seed": Key(WHOLE, "Seed of the sampling, for backends that honour one."),
}

ENDPOINT: Final[Mapping[str, Key | Section]] = {
    "concurrency": Key(POSITIVE, "Requests at a time to this endpoint, over all agents that use it."),
    "requests_per_minute": Key(POSITIVE, "Requests that begin within any 60 seconds, over all agents."),
    "tokens_per_minute": Key(
        POSITIVE, "Tokens of prompts and replies within any 60 seconds, over all agents."
    ),
}

MODEL: Final[Mapping[str, Key | Section]] = {
    "base_url": Key(NAME, "Root of the endpoint's API, e.g. http://localhost:8000/v1."),
    "api_key_env": Key(NAME, "The environment variable (or line of .env) that holds the key."),
    "api_key": Key(NAME, "The key itself: only as ${VARIABLE}, never written out. Prefer api_key_env."),
    **ENDPOINT,
    "options": Key(
        FREE,
        "Arguments of the backend: context, threads, device, dtype, ... From the top they go to agents on that backend.",
        {},
    ),
    **SAMPLING,
    "timeouts": Section("Time limits of one request, in seconds; null is no limit.", TIMEOUTS),
    **LIMITS,
    "tool_style": Key(
        choice("auto", "tags", "code"),
        "How the model calls tools: `auto` as its provider has them, else in text; `tags` in text, as JSON between tags; "
        "`code` by writing blocks of code, which the tool `python` runs.",
        "auto",
    ),
    "code_tags": Key(
        TAGS, 'What stands before and behind code in a reply instead of fences: `["<code>", "</code>"]`.'
    ),
    "retry": Section(
        "How requests that fail are tried again, in place of max_provider_retry, backoff_base and backoff_cap.",
        RETRY,
    ),
    "window": Key(
        WINDOW,
        "What is done where a request is longer than the model's window: `drop` leaves out the oldest turns, `summarise` "
        "has a summary in their place, or `{policy: drop, tokens: 8192, reserve: 500}`. Left out: it is sent as it is.",
    ),
    "approval": Key(
        APPROVAL,
        "Tools that somebody must approve each time: names, `weather.*`, `effect:ask`, true for all. What stands at the top "
        "and what stands in an agent add up.",
    ),
}
"""What may stand at the top, for every agent, and in one agent, for that one."""

AGENT: Final[Mapping[str, Key | Section]] = {
    "description": Key(TEXT, "What this agent is for; other agents and `lllm list agents` show it."),
    "agent_type": Key(
        NAME, "A class of this one agent. The class of the system is named at the top.", later=True
    ),
    "model_name": Key(NAME, "`provider/model`, e.g. openai/gpt-4o-mini. `model` is the same key."),
    "system_prompt_path": Key(NAME, "The registered prompt that opens every dialog."),
    "system_prompt": Key(TEXT, "The system prompt itself, instead of system_prompt_path."),
    "prompt": Key(
        PROMPT,
        "The registered prompt that a plain call uses; or the prompt itself: a text with places like `{task}`, or a mapping "
        "with the keys of a prompt file.",
    ),
    "handoffs": Key(
        NAMES, "Other agents of this file that it may pass the conversation to; they answer in its place.", []
    ),
    "prompts": Key(
        NAMES,
        "Further registered prompts that this agent may be called with. If set, no others are allowed but `prompt`.",
        [],
    ),
    "tools": Key(
        NAMES,
        "Tools: registered names, `module:function`, endpoints (`weather.daily`), all endpoints of a proxy (`weather.*`), or "
        "other agents of this file, which it asks as it calls a tool.",
        [],
    ),
    "activate_proxies": Key(
        NAMES_OR_NONE,
        "The proxies whose endpoints this agent may have as tools; if left out, those at the top. If `tools` is left out or "
        "names no endpoint, it has all of them. `proxies` is the same key.",
    ),
    "format": Key(
        FORMAT,
        "Form of the result: a JSON Schema, its short form `{total: number, tags: [string], note: string?}`, or "
        "`module:Class`. `output_schema` is the same key.",
    ),
    "sandbox": Key(
        NAME_OR_NONE,
        "The registered sandbox in which this agent's code runs: `jupyter`. It has the tools python, shell and files then.",
    ),
    "context": Key(
        CONTEXT,
        "A text that every conversation of this agent has in it, fenced as data: the text, or `{file: notes.md, place: user, "
        "budget: 2000, cut: false}`; `place: system` puts it behind the system prompt. Files are relative to this one.",
    ),
    "memory": Key(
        MEMORY,
        "Whether its calls go on with the conversation of the calls before: `true`, whatever sessions they are in, or "
        "`session`, with a conversation of its own in each.",
        False,
    ),
    "model_args": Key(FREE, "Further arguments for the model, passed as they are.", {}),
    "settings": Key(FREE, "Your own keys, for your own code.", {}),
    **MODEL,
}

PROXY: Final[Mapping[str, Key | Section]] = {
    "base_url": Key(NAME, "Where the API is, instead of the class's own `base_url`."),
    "timeout": Key(SECONDS, "Seconds that one request may take."),
    "concurrency": Key(POSITIVE, "Requests at a time."),
    "requests_per_minute": Key(POSITIVE, "Requests that begin within any 60 seconds."),
    "max_bytes": Key(POSITIVE, "Bytes of the longest answer that is read."),
    "cache": Key(FLAG, "Whether answers of endpoints that may be cached are."),
    "env": Key(
        VARIABLES,
        "Variables to read instead of those that the class names for its credentials: `{API_KEY: API_KEY_STAGING}`.",
    ),
}
"""Settings of one proxy. Further keys are options of its own: arguments of its constructor."""
OPTION: Final = Key(FREE, "An option of the proxy's own: an argument of its constructor.")

SHARED: Final[Mapping[str, Key | Section]] = {
    "proxy_options": Section(
        "Settings of proxies by name, and further keys: options of a proxy itself (`root` of `files`).",
        PROXY,
        each="proxy",
        open=True,
    ),
    "log": Section(
        "Where sessions are kept. In YAML also `log_type` and `log_dir`: set it in one of the two files only.",
        {
            "type": Key(NAME, "A registered store: sqlite, localfile, postgres, memory, none, ...", "sqlite"),
            "dir": Key(PATH, "The folder for it.", ".lllm"),
            "url": Key(
                NAME,
                "The address of its server, for postgres: postgresql://USER:${PGPASSWORD}@HOST/DATABASE.",
            ),
            "synchronous": Key(
                choice("normal", "full"),
                "What an acknowledged event outlives: `normal` the death of the process, `full` a power cut too.",
                "normal",
            ),
        },
    ),
    "cache": Section(
        "Replies kept by the content of the request.",
        {
            "enabled": Key(FLAG, "Answer from the cache where it has an answer.", False),
            "dir": Key(PATH, "The folder for it.", ".lllm/cache"),
            "mode": Key(
                choice("read", "write", "refresh"),
                "`read` uses it as it is, `write` fills it too, `refresh` asks everything anew and replaces what it has.",
                "write",
            ),
        },
    ),
    "sandbox": Section(
        "How code of a model is kept apart.",
        {
            "tier": Key(choice("namespace", "process", "container"), "The isolation asked for.", "namespace"),
            "required": Key(FLAG, "Refuse to run code below the asked tier.", True),
            "broken": Key(
                choice("replace", "end"),
                "When a sandbox itself does not work any more: `replace` it once, and end the call the second time; or `end`.",
                "replace",
            ),
            "dir": Key(PATH, "The folder for notebooks and the files that code writes.", ".lllm/notebooks"),
            "files": Key(
                PATHS,
                "Files and folders that are copied into each sandbox at first. Those within the project keep their paths.",
                [],
            ),
            "resume": Key(
                choice("rerun", "restore"),
                "What a resumed or forked session does: `rerun` the cells before, or `restore` the files without variables.",
                "rerun",
            ),
            "warm": Key(
                COUNT,
                "Kernels that are kept ready, for services and training. 0: each session starts its own.",
                0,
            ),
            "preload": Key(
                NAMES, "Modules that kept kernels have imported already: numpy, matplotlib.pyplot.", []
            ),
            "timeout": Key(SECONDS, "Seconds that one cell may run.", 60.0),
            "memory": Key(POSITIVE, "Megabytes that a sandbox may use.", 4096),
            "processes": Key(POSITIVE, "Processes and threads at a time.", 128),
            "disk": Key(POSITIVE, "Megabytes of its working folder.", 512),
        },
    ),
}

PROJECT: Final[Mapping[str, Key | Section]] = {
    "project": Section("This project.", {"name": Key(NAME, "Its name, which `lllm doctor` shows.")}),
    "discovery": Section(
        "Folders whose modules are imported and whose prompts, proxies, agents, tools and environments are registered.",
        {
            "prompts": Key(PATHS, "Modules and .md or .yaml files with prompts.", []),
            "proxies": Key(PATHS, "Modules with proxies.", []),
            "agents": Key(PATHS, "Modules with agents.", []),
            "tools": Key(PATHS, "Modules with tools.", []),
            "environments": Key(PATHS, "Modules and .yaml files with environments to train in.", []),
            "strict": Key(FLAG, "A file that cannot be imported stops the program.", False),
        },
    ),
    "run": Section(
        "What runs when nothing is named.",
        {
            "default": Key(PATH, "The YAML file of the system."),
            "model": Key(NAME, "The model of every agent that names none."),
            "profile": Key(NAME, "The profile to use."),
        },
    ),
    "models": Section(
        "Models on this machine, by name: `model_name: NAME` then means the file.",
        {
            "path": Key(PATH, "A GGUF file, or a folder as transformers keeps them."),
            "backend": Key(NAME, "The backend that loads it; told by the kind of file where left out."),
            "options": Key(FREE, "Arguments of that backend: context, threads, device, dtype, ...", {}),
        },
        each="model",
    ),
    "prices": Section(
        "Prices of models, instead of lllm's own if it has one; by the model's name, with or without its provider.",
        {
            "prompt": Key(PRICE, "Fresh tokens of the prompt."),
            "cached": Key(
                PRICE, "Tokens of the prompt that the provider had cached; same as `prompt` if omitted."
            ),
            "completion": Key(PRICE, "Tokens of the reply, its reasoning included."),
        },
        each="model",
    ),
    "profiles": Section(
        "Named sets of a system's keys, stronger than its file; dotted keys are welcome.", {}, each="profile"
    ),
    **SHARED,
}

SYSTEM: Final[Mapping[str, Key | Section]] = {
    "name": Key(NAME, "Name of the system."),
    "description": Key(TEXT, "What the system is for; `lllm list agents` shows it."),
    "extends": Key(PATH_OR_PATHS, "YAML files to start from, relative to this one."),
    "profile": Key(NAME, "The profile of lllm.toml to use."),
    "system_type": Key(
        NAME,
        "A registered class that runs the system, where agent_type names none; else `simple`, or `steps` if there are any.",
    ),
    "agent_type": Key(NAME, "The registered class that `build_agent` builds."),
    "start": Key(
        NAME,
        "The agent that gets the task, if no class does; by default the one that no other agent reaches.",
    ),
    "steps": Key(
        STEPS,
        "Stages that the task goes through, one after another: agents of this file, `module:function`, registered steps, or "
        "`parallel`, `map`, `join`, `route`, `loop`, `retry`, `fallback` of them, or a sink: `to_jsonl`, `to_sqlite`, "
        "`to_parquet`, `sink`. `agent_type: steps` is implied.",
    ),
    "budget": Section("What one run of `steps` may use, all agents within it together.", BUDGET),
    "agent_group": Key(NAMES, "Which of agent_configs belong to this system; all where left out.", []),
    "agent_configs": Section("The agents, by name.", AGENT, each="agent"),
    "activate_proxies": Key(
        NAMES_OR_NONE,
        "The proxies that the system's own code and its agents may use. `proxies` is the same key.",
    ),
    "cutoff_date": Key(
        DATE,
        "Answers of proxies have no entries of this day or later, and such dates cannot be asked for.",
    ),
    "deploy_mode": Key(
        FLAG, "Whether the system is in use, rather than evaluated on the past: no cutoff date then.", False
    ),
    "model": Key(
        NAME, "The model of every agent that names none; `auto` is the first that is configured.", "auto"
    ),
    "ckpt_dir": Key(PATH, "The folder for checkpoints.", ".lllm/checkpoints"),
    "random_seed": Key(
        SEED, "Seed of every random choice of the runtime; drawn, and logged, where left out."
    ),
    "settings": Key(FREE, "Your own keys, for your own code. `extra` is the same key.", {}),
    **MODEL,
    **SHARED,
}

EVERYTHING: Final[Mapping[str, Key | Section]] = {
    **{name: key for name, key in PROJECT.items() if name != "profiles"},
    **{name: key for name, key in SYSTEM.items() if name != "extends"},
}
"""What --set and the environment may set."""

PROFILE: Final[Mapping[str, Key | Section]] = {
    name: key for name, key in SYSTEM.items() if name not in ("extends", "profile")
}

ALIASES: Final = {
    # another spelling -> the key; `*` is any one name
    "log_type": "log.type",
    "log_dir": "log.dir",
    "proxies": "activate_proxies",
    "extra": "settings",
    "model_name": "model",
    "max_completion_tokens": "max_tokens",
    "run.model": "model",
    "run.profile": "profile",
    "agent_configs.*.model": "agent_configs.*.model_name",
    "agent_configs.*.proxies": "agent_configs.*.activate_proxies",
    "agent_configs.*.output_schema": "agent_configs.*.format",
    "agent_configs.*.extra": "agent_configs.*.settings",
    "agent_configs.*.max_completion_tokens": "agent_configs.*.max_tokens",
}

EXCLUSIVE: Final = (
    ("start", "steps"),
    ("api_key", "api_key_env"),
    ("agent_configs.*.api_key", "agent_configs.*.api_key_env"),
    ("agent_configs.*.system_prompt", "agent_configs.*.system_prompt_path"),
)
"""Two ways to say one thing: not both in one file, and a stronger source's way replaces a weaker one's other way."""


def find(path: tuple[str, ...], tree: Mapping[str, Key | Section] = EVERYTHING) -> Key | Section | None:
    """The entry of the tables for a path; None when there is none. Below a key of the user's own keys, that key."""
    here: Key | Section | None = None
    keys = tree
    skip = False
    for part in path:
        if skip:
            skip = False
            continue
        if isinstance(here, Key):
            return here if here.kind in (FREE, VARIABLES) else None
        above, here = here, keys.get(part)
        if here is None:
            return OPTION if isinstance(above, Section) and above.open else None
        if isinstance(here, Section):
            keys, skip = here.keys, here.each is not None
    return here


def alias(path: tuple[str, ...]) -> tuple[str, ...]:
    """The canonical spelling of a path."""
    shape = tuple(
        "*" if index == 1 and path[0] == "agent_configs" else part for index, part in enumerate(path)
    )
    for length in range(len(shape), 0, -1):
        target = _ALIASES.get(shape[:length])
        if target is not None:
            return tuple(path[1] if part == "*" else part for part in target) + path[length:]
    return path


_ALIASES: Final = {tuple(old.split(".")): tuple(new.split(".")) for old, new in ALIASES.items()}
