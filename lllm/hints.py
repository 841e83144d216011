"""Hints on how to install missing packages: every message with a `pip install` takes it from here.

lllm is installed from its repository: on a package index, the name `lllm` may belong to others. So a hint names the
packages of an extra themselves, which is correct in every environment and needs no checkout.
"""

from __future__ import annotations

from typing import Final

PACKAGES: Final = {
    # extra: its packages, as in pyproject.toml, without versions
    "local": ("gguf", "xllamacpp"),
    "openai": ("openai", "tiktoken"),
    "socks": ("aiohttp-socks", "socksio"),
    "llama-cpp": ("llama-cpp-python",),
    "transformers": ("accelerate", "gguf", "llguidance", "torch", "transformers"),
    "sandbox": ("ipykernel", "jupyter_client", "nbformat"),
    "browser": ("playwright",),
    "rl": (
        "datasets",
        "matplotlib",
        "peft",
        "tensorboard",
        "trl",
        "accelerate",
        "gguf",
        "llguidance",
        "torch",
        "transformers",
    ),
    "ray": ("ray",),
    "postgres": ("psycopg[binary]",),
    "pdf": ("pypdf",),
    "parquet": ("pyarrow",),
    "serve": ("starlette", "uvicorn"),
    "otel": ("opentelemetry-sdk",),
}


def install_command(extra: str | None, *, package: str = "") -> str:
    """The command that installs the packages of an extra; for an unknown extra, `package` alone."""
    names = PACKAGES.get(extra or "", (package,))
    return "pip install " + " ".join(f"'{name}'" if "[" in name else name for name in names)


def install_hint(extra: str | None, *, package: str = "") -> str:
    """The hint for a missing package: its extra, if there is one, and the command to type."""
    brings = f"The extra lllm[{extra}] brings it. " if extra in PACKAGES else ""
    return f"{brings}Type: {install_command(extra, package=package)}"


def other_model_hint() -> str:
    """A second hint for the embedded model, for users who do not want to install an engine."""
    return "Or name another model: LLLM_MODEL=openai/gpt-4o-mini, with OPENAI_API_KEY."


def update_hint() -> str:
    """The hint for data written by a later lllm."""
    return "Update lllm. Type, in its checkout: git pull && pip install ."


def reinstall_hint() -> str:
    """The hint for missing or damaged files of the package."""
    return "Type, in a checkout of lllm: pip install --force-reinstall --no-deps ."


def replace_hint(package: str) -> str:
    """The hint for an installed package that does not work, or is too old or too new."""
    return (
        f"Type: pip install --upgrade --force-reinstall --no-deps {package}. "
        "If it is newer than this lllm, update lllm: git pull, in its checkout."
    )
