"""Prompt, Message, Function, FunctionCall, MCP, Reply, Usage: the values that people write and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lllm.models.function import MCP as MCP
    from lllm.models.function import Function as Function
    from lllm.models.function import ToolContext as ToolContext
    from lllm.models.function import tool as tool
    from lllm.models.message import FunctionCall as FunctionCall
    from lllm.models.message import Message as Message
    from lllm.models.parts import File as File
    from lllm.models.parts import Image as Image
    from lllm.models.prompt import Prompt as Prompt
    from lllm.models.prompt import load_prompt_file as load_prompt_file
    from lllm.models.render import render_result as render_result
    from lllm.models.reply import Reply as Reply
    from lllm.models.reply import Usage as Usage

_HOME = {
    "Function": "function",
    "MCP": "function",
    "load_prompt_file": "prompt",
    "render_result": "render",
    "tool": "function",
    "File": "parts",
    "FunctionCall": "message",
    "Image": "parts",
    "Message": "message",
    "Prompt": "prompt",
    "Reply": "reply",
    "ToolContext": "function",
    "Usage": "reply",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        from lllm.porting import no_name

        raise no_name("lllm.models", name)
    from importlib import import_module

    return getattr(import_module(f"lllm.models.{_HOME[name]}"), name)
