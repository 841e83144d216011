"""The plug-ins that ship with lllm, as tables that the registry reads; nothing is imported for them."""

from __future__ import annotations

from typing import Final

from lllm.providers import PROVIDERS

BUILTINS: Final = (
    # kind, name, target, summary, extra
    ("backend", "openai", "lllm.backends.openai:OpenAIBackend", "OpenAI and every compatible endpoint", None),
    *(
        ("backend", name, f"lllm.backends.openai.providers:{name}", provider.about, None)
        for name, provider in PROVIDERS.items()
    ),
    (
        "backend",
        "scripted",
        "lllm.backends.scripted:ScriptedBackend",
        "replies from a list or a function",
        None,
    ),
    (
        "backend",
        "embedded",
        "lllm.backends.embedded:EmbeddedBackend",
        "the small model in this package",
        "local",
    ),
    (
        "backend",
        "llama_cpp",
        "lllm.backends.llama_cpp:LlamaCppBackend",
        "GGUF files in this process, on llama.cpp",
        "local",
    ),
    (
        "backend",
        "transformers",
        "lllm.backends.transformers:TransformersBackend",
        "Hugging Face models in this process, on torch",
        "transformers",
    ),
    (
        "backend",
        "replay",
        "lllm.replay.backend:ReplayBackend",
        "the replies of a recorded session",
        None,
    ),
    (
        "proxy",
        "files",
        "lllm.proxies.builtin.files:Files",
        "Reads, lists, searches and writes the files of one folder.",
        None,
    ),
    (
        "proxy",
        "git",
        "lllm.proxies.builtin.git:GitProxy",
        "Reads the history of one Git repository, and commits.",
        None,
    ),
    (
        "proxy",
        "sql",
        "lllm.proxies.builtin.sql:SQL",
        "Asks a SQLite file or a Postgres database, and changes its rows.",
        None,
    ),
    (
        "proxy",
        "fetch",
        "lllm.proxies.builtin.fetch:Fetch",
        "Reads pages of the web as Markdown, from hosts that are allowed.",
        None,
    ),
    (
        "proxy",
        "knowledge",
        "lllm.proxies.builtin.knowledge:Knowledge",
        "Searches a folder of documents, with citations.",
        None,
    ),
    (
        "proxy",
        "search",
        "lllm.proxies.builtin.search:Search",
        "Searches the web, by SearXNG or another API.",
        None,
    ),
    (
        "sandbox",
        "jupyter",
        "lllm.sandbox.jupyter:JupyterSession",
        "A notebook and its kernel, apart from everything else on the machine.",
        "sandbox",
    ),
    (
        "agent",
        "coder",
        "lllm.llm.coder:Coder",
        "Solves a task by writing and running code, and leaves the notebook.",
        "sandbox",
    ),
    (
        "agent",
        "chain_of_agents",
        "lllm.systems.declared:LongTexts",
        "Does a task over a text that is longer than the model's window.",
        None,
    ),
    (
        "agent",
        "multi_call",
        "lllm.systems.declared:Drafts",
        "Asks the same thing several times at once, and keeps all replies or picks one.",
        None,
    ),
    ("agent", "simple", "lllm.llm.simple:Simple", "Gives the task to the one agent that is declared.", None),
    ("store", "sqlite", "lllm.log.sqlite:SQLiteLog", "one SQLite file for all sessions", None),
    ("store", "localfile", "lllm.log.files:LocalFileLog", "a folder of JSON Lines per session", None),
    ("store", "memory", "lllm.log.memory:MemoryLog", "sessions that end with the process", None),
    (
        "store",
        "postgres",
        "lllm.log.postgres:PostgresLog",
        "a Postgres database, for many machines",
        "postgres",
    ),
    ("store", "none", "lllm.log.none:NoLog", "nothing is kept", None),
    ("agent", "steps", "lllm.steps.system:ChainSystem", "Gives the task to the stages of `steps:`.", None),
    *(
        ("environment", f"rl/{path.split(':')[1].lower()}", f"lllm.rl.environments.{path}", summary, extra)
        for path, summary, extra in (
            ("arithmetic:Arithmetic", "Sums in English, with a calculator.", None),
            ("arithmetic:Sharing", "Divisions in words, with a calculator.", None),
            ("schema:Schema", "Facts in a text, as JSON that fits a schema.", None),
            ("code:Code", "Functions to write, tested in the sandbox.", "sandbox"),
            ("maze:Maze", "A game with tools: find the way out of a maze.", None),
            ("doors:Doors", "A game of several turns: each door asks a sum.", None),
        )
    ),
    ("step", ">>", "lllm.steps.chains:chain", "steps one after another", None),
    ("program", "system", "lllm.replay.program:System", "a system on its task", None),
    ("program", "chat", "lllm.replay.program:Chat", "a conversation with one agent", None),
    ("program", "agent", "lllm.replay.calls:Calls", "a single call of an agent", None),
    ("program", "chain", "lllm.replay.calls:Calls", "a chain on one value", None),
    ("program", "batch", "lllm.replay.calls:Calls", "a batch of items, each with a session of its own", None),
    (
        "program",
        "rl/batch",
        "lllm.rl.programs:Rollouts",
        "rollouts in an environment, each with a session",
        None,
    ),
    ("program", "rl/item", "lllm.rl.programs:Rollouts", "one rollout in an environment", None),
    ("program", "endpoint", "lllm.replay.program:EndpointCall", "one call of an endpoint", None),
    ("program", "import", "lllm.replay.calls:Calls", "an imported dialog", None),
)

EXTRAS: Final = {
    # extra: the modules that its packages bring (the packages themselves stand in pyproject.toml)
    "local": ("xllamacpp", "gguf"),
    "openai": ("openai", "tiktoken"),
    "llama-cpp": ("llama_cpp",),
    "transformers": ("transformers", "torch", "accelerate", "gguf", "llguidance"),
    "socks": ("aiohttp_socks", "socksio"),
    "sandbox": ("ipykernel", "jupyter_client", "nbformat"),
    "browser": ("playwright",),
    "rl": (
        "trl",
        "datasets",
        "peft",
        "tensorboard",
        "matplotlib",
        "transformers",
        "torch",
        "accelerate",
        "gguf",
    ),
    "ray": ("ray",),
    "postgres": ("psycopg",),
    "pdf": ("pypdf",),
    "parquet": ("pyarrow",),
    "serve": ("starlette", "uvicorn"),
    "otel": ("opentelemetry",),
}

INSTEAD: Final = {
    # what ships here and can do with another extra's packages as well
    ("backend", "embedded"): ("llama-cpp", "transformers"),
    ("backend", "llama_cpp"): ("llama-cpp",),
}

ADDS: Final = {
    # what ships here, works without an extra, and does more with it: the extra, and what that is
    ("proxy", "knowledge"): ("pdf", "PDF files are left out"),
}
