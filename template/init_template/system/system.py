"""The system as a Python object, and as a program of its own:

python -m system.system "What is 17 times 23?"
"""

from pathlib import Path
from typing import Any

from lllm import AgentBase, build_agent

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config" / "%%name%%" / "default.yaml"


def build(
    config: Any = CONFIG,
    ckpt_dir: str | Path = ROOT / ".lllm" / "checkpoints",
    stream: Any = None,
    **more: Any,
) -> AgentBase:
    """Builds the system. `stream` is anything with Streamlit's methods, e.g. the module `streamlit` itself."""
    return build_agent(config, ckpt_dir, stream, **more)


if __name__ == "__main__":
    import sys

    print(build()(" ".join(sys.argv[1:]) or "What is 17 times 23?"))
