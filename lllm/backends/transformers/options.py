"""Options for loading a torch model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lllm.backends.devices import checked
from lllm.backends.transformers.device import DTYPES
from lllm.errors import ConfigError, UnknownKeyError, nearest

QUANTIZATIONS: Final = ("int8", "8bit", "4bit")
ATTENTION: Final = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
# from_pretrained's own names for what has an option of ours, and names that belong to a request
_OURS: Final = {
    "dtype": "dtype",
    "torch_dtype": "dtype",
    "device": "device",
    "device_map": "device",
    "attn_implementation": "attn",
    "quantization_config": "quantization",
    "load_in_8bit": "quantization",
    "load_in_4bit": "quantization",
    "trust_remote_code": "trust_remote_code",
    "revision": "revision",
}
_SAMPLING: Final = frozenset(
    "temperature top_p top_k min_p max_tokens max_new_tokens stop seed do_sample repetition_penalty presence_penalty"
    " frequency_penalty logprobs top_logprobs num_beams".split()
)


def _text(value: object) -> bool:
    return value is None or (isinstance(value, str) and value != "")


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _count(value: object) -> bool:
    return value is None or (type(value) is int and value >= 1)


def _mapping(value: object) -> bool:
    return isinstance(value, Mapping)


# what a value must be, in code and in words
_FORMS: Final = (
    ("compile", _flag, "true or false"),
    ("trust_remote_code", _flag, "true or false"),
    ("revision", _text, "a text"),
    ("lora", _text, "a text"),
    ("chat_template", _text, "a text"),
    ("threads", _count, "a whole number, 1 or more"),
    ("model_args", _mapping, "a mapping"),
)


class LoadOptions(NamedTuple):
    """Options for loading a model; none of them concerns a single request.

    Attributes:
        device: auto, cpu, cuda, cuda:N or mps, see `lllm.backends.devices.resolve`.
        dtype: auto, bfloat16, float16 or float32, see `lllm.backends.transformers.device.dtype_of`.
        compile: whether the model is compiled by `torch.compile`. The first requests wait for the compiler (tens of seconds).
        quantization: None; `int8` (on the CPU: torch's own, the weights of all linear layers but the last); `8bit` or `4bit`
            (the package bitsandbytes).
        threads: CPU threads of torch, for the whole process; None leaves them as they are.
        attn: how attention is computed, in transformers' words; None leaves it to the library.
        trust_remote_code: whether code that comes with the model may run.
        revision: which version of a model of the hub's cache.
        lora: a folder with a LoRA adapter (the package peft).
        chat_template: a Jinja template instead of the model's own.
        model_args: more keyword arguments for `from_pretrained`.
    """

    device: str = "auto"
    dtype: str = "auto"
    compile: bool = False
    quantization: str | None = None
    threads: int | None = None
    attn: str | None = None
    trust_remote_code: bool = False
    revision: str | None = None
    lora: str | None = None
    chat_template: str | None = None
    model_args: Mapping[str, Any] = {}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> LoadOptions:
        """Options from a mapping, checked. Raises UnknownKeyError or ConfigError; several problems are told in one error."""
        found: list[ConfigError] = [
            UnknownKeyError(key, cls._fields) for key in given if key not in cls._fields
        ]
        options = cls(**{key: value for key, value in given.items() if key in cls._fields})
        _raise([*found, *options._problems()])
        return options

    def check(self) -> None:
        """Raises ConfigError with all that is wrong with the values. Loads nothing."""
        _raise(self._problems())

    def _problems(self) -> list[ConfigError]:
        found: list[ConfigError] = []
        try:
            checked(self.device)
        except ConfigError as error:
            found.append(error)
        for name, words in (("dtype", DTYPES), ("quantization", QUANTIZATIONS), ("attn", ATTENTION)):
            value = getattr(self, name)
            if value not in words and (name == "dtype" or value is not None):
                close = nearest(str(value), words)
                found.append(
                    ConfigError(
                        f"{name} is {value!r}; it is one of {', '.join(words)}",
                        hint=f"Did you mean '{close}'?" if close else None,
                    )
                )
        for name, fits, wanted in _FORMS:
            value = getattr(self, name)
            if not fits(value):
                found.append(ConfigError(f"{name} is {value!r}; it is {wanted}"))
        for key in self.model_args if _mapping(self.model_args) else ():
            if key in _OURS:
                found.append(
                    ConfigError(f"model_args has '{key}'", hint=f"Give the option '{_OURS[key]}' instead.")
                )
            elif key in _SAMPLING:
                found.append(
                    ConfigError(
                        f"model_args has '{key}', which belongs to a request and not to loading",
                        hint=f"Set '{key}' where the model is called, or in the agent's model_args.",
                    )
                )
        return found


def _raise(problems: list[ConfigError]) -> None:
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(f"the load options have {len(problems)} problems\n{lines}")
