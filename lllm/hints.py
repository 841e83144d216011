"""What to type to install what is missing: every message that names a `pip install` has it from here.

lllm is installed from its repository: on an index, the name `lllm` may belong to others. So a hint names the packages of
an extra themselves, which is right in every environment and needs no checkout.
"""

from __future__ import annotations

from typing import Final

PACKAGES: Final = {
    # extra: the packages that it brings, as pyproject.toml has them without their versions
    "local": ("gguf", "xllamacpp"),
    "openai": ("openai", "tiktoken"),
    "socks": ("aiohttp-socks", "socksio"),
    "llama-cpp": ("llama-cpp-python",),
    "transformers": ("accelerate", "gguf", "llguidance", "torch", "transformers"),
    "sandbox": ("ipykernel", "jupyter_client", "nbformat"),
    "browser": ("playwright",),
    "rl": ("datasets", "trl", "accelerate", "gguf", "llguidance", "torch", "transformers"),
    "ray": ("ray",),
    "postgres": ("psycopg[binary]",),
    "serve": ("starlette", "uvicorn"),
    "otel": ("opentelemetry-sdk",),
}


def install_command(extra: str | None, *, package: str = "") -> str:
    """The command that installs the packages of an extra of lllm; of one that is not known, `package` alone."""
    names = PACKAGES.get(extra or "", (package,))
    return "pip install " + " ".join(f"'{name}'" if "[" in name else name for name in names)


def install_hint(extra: str | None, *, package: str = "") -> str:
    """The hint for a package that is missing: the extra that brings it, if there is one, and what to type."""
    brings = f"The extra lllm[{extra}] brings it. " if extra in PACKAGES else ""
    return f"{brings}Type: {install_command(extra, package=package)}"


def other_model_hint() -> str:
    """The hint beside that of the embedded model, for who has no engine for it and may want none."""
    return "Or name another model: LLLM_MODEL=openai/gpt-4o-mini, with OPENAI_API_KEY."


def update_hint() -> str:
    """The hint for what a later lllm has written."""
    return "Update lllm. Type, in its checkout: git pull && pip install ."


def reinstall_hint() -> str:
    """The hint for files of the package that are missing or damaged."""
    return "Type, in a checkout of lllm: pip install --force-reinstall --no-deps ."


def replace_hint(package: str) -> str:
    """The hint for a package that is installed and does not work, or is too old or too new."""
    return (
        f"Type: pip install --upgrade --force-reinstall --no-deps {package}. "
        "If it is newer than this lllm, update lllm: git pull, in its checkout."
    )
