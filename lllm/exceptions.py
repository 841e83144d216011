"""The errors under the import path used by other projects. They are defined in `lllm.errors`."""

from lllm import errors as _errors
from lllm.errors import *  # noqa: F403

__all__ = [
    name
    for name, kind in vars(_errors).items()
    if isinstance(kind, type) and issubclass(kind, _errors.LLMError)
]
