"""What a runner is made of: `ModelConfig`, and the names of backends and devices."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from numbers import Integral, Real
from typing import Any, Final, NamedTuple

from lllm.config.kinds import HOTTEST
from lllm.errors import ConfigError, UnknownKeyError, nearest


class BackendType(StrEnum):
    """The backends of this package. A text is taken wherever one of these is: `llama.cpp`, `llama-cpp` and `llama_cpp` are
    the same. Other backends have no member: their registered name is their type."""

    LLAMA_CPP = "llama_cpp"
    TRANSFORMERS = "transformers"
    EMBEDDED = "embedded"
    SCRIPTED = "scripted"
    AUTO = "auto"

    @classmethod
    def _missing_(cls, value: object) -> BackendType | None:
        return cls.__members__.get(_SPELLINGS.get(_plain(value), ""))


class DeviceType(StrEnum):
    """Where a model computes. `auto` takes what there is: cuda, else mps, else cpu."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    @classmethod
    def _missing_(cls, value: object) -> DeviceType | None:
        return cls.__members__.get(str(value).upper())


_SPELLINGS: Final = {
    "llamacpp": "LLAMA_CPP",
    "gguf": "LLAMA_CPP",
    "transformers": "TRANSFORMERS",
    "huggingface": "TRANSFORMERS",
    "hf": "TRANSFORMERS",
    "embedded": "EMBEDDED",
    "scripted": "SCRIPTED",
    "auto": "AUTO",
}


def _plain(value: object) -> str:
    return "".join(letter for letter in str(value).lower() if letter.isalnum())


class Rule(NamedTuple):
    """What a setting may be. Bounds are inclusive unless `above` is set, which leaves the lower one out."""

    kind: str
    low: float | None = None
    high: float | None = None
    above: bool = False


SAMPLING: Final = {
    "temperature": Rule("number", 0, HOTTEST),
    "max_tokens": Rule("integer", 1),
    "top_p": Rule("number", 0, 1, above=True),
    "top_k": Rule("integer", 0),
    "min_p": Rule("number", 0, 1),
    "repetition_penalty": Rule("number", 0, 10, above=True),
    "presence_penalty": Rule("number", -2, 2),
    "frequency_penalty": Rule("number", -2, 2),
    "stop": Rule("texts"),
    "seed": Rule("integer", 0, 2**32 - 2),
}
"""Settings of one reply: each can be overridden per call, and none reaches the loading of a model."""

LOADING: Final = {
    "n_ctx": Rule("integer", 1),
    "n_gpu_layers": Rule("integer", -1),
    "n_threads": Rule("integer", 1),
    "slots": Rule("integer", 1),
    "batch": Rule("integer", 1),
    "engine": Rule("text"),
    "chat_template": Rule("text"),
    "dtype": Rule("text"),
    "compile": Rule("switch"),
    "quantization": Rule("text"),
    "flash_attention": Rule("switch"),
    "lora": Rule("adapters"),
    "options": Rule("mapping"),
}
"""Settings of a model's loading: a change of one means loading again."""

ALIASES: Final = {
    "model": "model_path",
    "repeat_penalty": "repetition_penalty",
    "context": "n_ctx",
    "context_length": "n_ctx",
    "gpu_layers": "n_gpu_layers",
    "threads": "n_threads",
    "chat_format": "chat_template",
    "torch_dtype": "dtype",
    "torch_compile": "compile",
    "stop_sequences": "stop",
}
"""Other spellings of a setting, taken wherever settings are given."""

CHAT_FORMATS: Final = {
    "chatml": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
}
"""Chat templates that can be given by name."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model and how it is loaded and sampled. Frozen; `dataclasses.replace` makes another.

    None leaves a setting to the backend; there are no stop strings by default. The other spellings in `ALIASES`
    (`repeat_penalty`, `context`, `torch_dtype`, ...) are taken too.

    Args:
        model_path: a GGUF file, or a folder with a `config.json`. The embedded model needs none.
        backend: a BackendType, its text, or the name of a registered backend. A list is an order: the first whose packages
            are installed is used, and a log line says which were passed over. None (or auto) goes by the kind of file.
        device: a DeviceType or its text; `cuda:1` names one of several. A device that is not there is an error.
        temperature: 0 is greedy.
        max_tokens: of one reply, 1 or more.
        top_p, top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty: as the engines define them.
        stop: a text or several; a reply ends before the first of them.
        seed: of the sampling.
        timeout: seconds for one reply.
        n_ctx: tokens of one request, prompt and reply together.
        n_gpu_layers: layers on the GPU; -1 is all.
        n_threads: CPU threads.
        slots: requests that llama.cpp decodes together.
        batch: requests that transformers decodes together.
        engine: of llama.cpp: xllamacpp or llama-cpp-python.
        chat_template: a Jinja template, or the name `chatml`, instead of the model's own.
        dtype: float32, float16, bfloat16 or auto.
        compile: whether torch compiles the model.
        quantization: the name of a method of the backend.
        flash_attention: as the engine defines it.
        lora: a path of an adapter, or `(path, scale)` pairs.
        options: further arguments for a backend's constructor, as it names them.

    Raises:
        UnknownKeyError: one setting that does not exist.
        ConfigError: anything else; lists all problems.
    """

    model_path: str | os.PathLike[str] | None = None
    backend: BackendType | str | Sequence[BackendType | str] | None = None
    device: DeviceType | str = DeviceType.AUTO
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | Sequence[str] | None = None
    seed: int | None = None
    timeout: float | None = None
    n_ctx: int | None = None
    n_gpu_layers: int | None = None
    n_threads: int | None = None
    slots: int | None = None
    batch: int | None = None
    engine: str | None = None
    chat_template: str | None = None
    dtype: str | None = None
    compile: bool | None = None
    quantization: str | None = None
    flash_attention: bool | None = None
    lora: str | Sequence[str | tuple[str, float]] | None = None
    options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        problems: list[str] = []
        for name, value in list(vars(self).items()):
            try:
                object.__setattr__(self, name, _value(name, value))
            except ValueError as error:
                problems.append(str(error))
        refuse(problems)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> ModelConfig:
        """From a mapping: `{"llm": {...}}` as in a settings file, or the settings themselves."""
        if not isinstance(settings, Mapping):
            raise ConfigError(f"a model's settings are {type(settings).__name__}, not a mapping")
        inner = settings.get("llm", settings)
        if not isinstance(inner, Mapping):
            raise ConfigError(f"'llm' is {type(inner).__name__}, not a mapping of settings")
        return cls(**{str(name): value for name, value in inner.items()})

    @classmethod
    def of(cls, given: ModelConfig | Mapping[str, Any] | str | os.PathLike[str]) -> ModelConfig:
        """A config from whatever stands for one: itself, a mapping, or the path of a model."""
        if isinstance(given, ModelConfig):
            return given
        if isinstance(given, str | os.PathLike):
            return cls(model_path=given)
        return cls.from_dict(given)

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends to try, in order; empty means: by the kind of file."""
        given = self.backend if isinstance(self.backend, tuple) else (self.backend,)
        return tuple(str(name) for name in given if name not in (None, BackendType.AUTO))

    @property
    def sampling(self) -> dict[str, Any]:
        """The sampling settings that are set, as a Request takes them."""
        return {name: value for name in SAMPLING if (value := getattr(self, name)) is not None}

    @property
    def loading(self) -> dict[str, Any]:
        """The load settings that are set."""
        return {name: value for name in LOADING if (value := getattr(self, name)) is not None}

    def to_dict(self) -> dict[str, Any]:
        """What is set, as `from_dict` reads it."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) is not None
        }

    def differs(self, other: ModelConfig) -> dict[str, tuple[Any, Any]]:
        """The settings with a different meaning: `{name: (here, there)}`. Equal are two spellings of one path, a backend
        and a list of only that backend, None and an empty list."""
        return {
            field.name: (mine, theirs)
            for field in dataclasses.fields(self)
            if _meaning(field.name, mine := getattr(self, field.name))
            != _meaning(field.name, theirs := getattr(other, field.name))
        }


def _meaning(name: str, value: Any) -> Any:
    """The normalised value by which two settings of a name are compared."""
    if name == "model_path" and value is not None:
        return _place(value)
    if name == "lora" and value is not None:
        return tuple((_place(path), scale) for path, scale in value) or None
    if name == "backend":
        names = value if isinstance(value, tuple) else (value,)
        return tuple(str(each) for each in names if each not in (None, BackendType.AUTO))
    return None if value == () or value == {} else value


def _place(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))


FIELDS: Final = tuple(field.name for field in dataclasses.fields(ModelConfig))


def _forgiving(made: Callable[..., None]) -> Callable[..., None]:
    """The constructor with the other spellings, and with unknown keys and bad values told in one message."""

    @functools.wraps(made)
    def __init__(self: ModelConfig, *args: Any, **given: Any) -> None:
        if args:
            if len(args) > 1 or "model_path" in given:
                raise ConfigError(
                    "ModelConfig takes its settings by name", hint="ModelConfig(model_path=...)"
                )
            given["model_path"] = args[0]
        settings, problems, unknown = spelled(given, FIELDS)
        if len(unknown) == 1 and not problems and not problems_of(settings):
            raise UnknownKeyError(unknown[0], FIELDS)
        problems += [_unknown(key, FIELDS) for key in unknown]
        if problems:
            refuse(problems + problems_of(settings))
        made(self, **settings)

    return __init__


ModelConfig.__init__ = _forgiving(ModelConfig.__init__)  # type: ignore[method-assign]


def spelled(given: Mapping[str, Any], known: Sequence[str]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Settings under their own names; what is wrong with the names; the names that are none."""
    settings: dict[str, Any] = {}
    problems, unknown = [], []
    for key, value in given.items():
        name = ALIASES.get(key, key)
        if name not in known:
            unknown.append(key)
        elif name in settings:
            problems.append(f"'{key}' is another spelling of '{name}', which is given too")
        else:
            settings[name] = value
    return settings, problems, unknown


def problems_of(settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values, one sentence each."""
    out = []
    for name, value in settings.items():
        try:
            _value(name, value)
        except ValueError as error:
            out.append(str(error))
    return out


def overrides(given: Mapping[str, Any], more: Sequence[str] = ()) -> dict[str, Any]:
    """Sampling settings given for one call, checked as those of a config are; `more` are further keys that are known to
    the caller and left as they are. None means: not given."""
    known = (*SAMPLING, *more)
    settings, problems, unknown = spelled({k: v for k, v in given.items() if v is not None}, known)
    if len(unknown) == 1 and not problems:
        raise UnknownKeyError(unknown[0], known)
    problems += [_unknown(key, known) for key in unknown]
    for name in list(settings):
        if name in SAMPLING:
            try:
                settings[name] = _value(name, settings[name])
            except ValueError as error:
                problems.append(str(error))
    refuse(problems)
    return settings


def _unknown(key: str, known: Sequence[str]) -> str:
    close = nearest(key, known)
    return f"unknown key '{key}'" + (f": did you mean '{close}'?" if close else "")


def problems_in(given: Mapping[str, Any]) -> list[str]:
    """All problems of the settings, one sentence each: names, values, and a path that does not exist."""
    settings, problems, unknown = spelled(given, FIELDS)
    problems += [_unknown(key, FIELDS) for key in unknown] + problems_of(settings)
    path = settings.get("model_path")
    if isinstance(path, str | os.PathLike) and not os.path.exists(os.path.expanduser(path)):
        problems.append(f"model_path: no such file or folder: {os.path.basename(path)}")
    return problems


def refuse(problems: Sequence[str]) -> None:
    """Raises ConfigError with all problems, if there are any."""
    if len(problems) == 1:
        raise ConfigError(problems[0])
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise ConfigError(f"{len(problems)} settings of the model are wrong:{lines}")


# --- one value -------------------------------------------------------------------------------------------------------


def _value(name: str, value: Any) -> Any:
    """The value in its own type. ValueError says what is wrong with it."""
    if name == "model_path":
        return _path(value)
    if name == "backend":
        return _backend(value)
    if name == "device":
        return _device(value)
    if value is None:
        return None
    rule = _RULES[name]
    return _READERS[rule.kind](name, value, rule)


def _path(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ValueError(f"model_path is {value!r}; it is the path of a file or folder")
    return os.fspath(value)


def _backend(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            raise ValueError("backend is an empty list; it is a name, or several in the order they are tried")
        return tuple(_backend(name) for name in value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"backend is {value!r}; it is a name: {', '.join(BackendType)}, or a registered one")
    try:
        return BackendType(value)
    except ValueError:
        return value.strip()


def _device(value: Any) -> Any:
    if value is None:
        return DeviceType.AUTO
    if isinstance(value, str):
        kind, _, number = value.partition(":")
        if not number:
            try:
                return DeviceType(value)
            except ValueError:
                pass
        elif kind.lower() == "cuda" and number.isdigit():
            return f"cuda:{int(number)}"
    close = nearest(str(value).lower(), DeviceType)
    raise ValueError(
        f"device is {value!r}; it is {', '.join(DeviceType)} or cuda:NUMBER"
        + (f". Did you mean '{close}'?" if close else "")
    )


def _number(name: str, given: Any, rule: Rule) -> float | int:
    value: Any = given  # numbers.Real has no comparison that type checkers know
    whole = rule.kind == "integer"
    what = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(given, Integral if whole else Real):
        raise ValueError(f"{name} is {value!r} ({type(value).__name__}); it is {what}")
    if not whole and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it is {what}")
    low, high = rule.low, rule.high
    if (low is not None and (value < low or (rule.above and value == low))) or (
        high is not None and value > high
    ):
        least = "" if low is None else f"above {low:g}" if rule.above else f"{low:g} or more"
        most = "" if high is None else f"at most {high:.10g}"
        raise ValueError(f"{name} is {value}; it is {' and '.join(part for part in (least, most) if part)}")
    return int(value) if whole else float(value)


def _text(name: str, value: Any, rule: Rule) -> str:
    if name == "dtype" and not isinstance(value, str):
        value = str(value).removeprefix("torch.")  # torch.float16 itself
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {value!r}; it is a text")
    if name == "dtype":
        value = _DTYPES.get(value, value)
        if value not in _DTYPES.values():
            raise ValueError(f"dtype is {value!r}; it is {', '.join(sorted(set(_DTYPES.values())))}")
    if name == "chat_template" and "{" not in value:
        if value not in CHAT_FORMATS:
            raise ValueError(
                f"chat_template is {value!r}; it is a Jinja template, or one of: {', '.join(CHAT_FORMATS)}"
            )
        value = CHAT_FORMATS[value]
    return str(value)


def _switch(name: str, value: Any, rule: Rule) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it is True or False")
    return value


def _texts(name: str, value: Any, rule: Rule) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"{name} is {value!r}; it is a text or a list of texts, none of them empty")
    return tuple(texts)


def _adapters(name: str, value: Any, rule: Rule) -> tuple[tuple[str, float], ...]:
    items = (value,) if isinstance(value, str | os.PathLike) else value
    if not isinstance(items, Sequence):
        raise ValueError(f"{name} is {value!r}; it is a path, or a list of paths or (path, scale)")
    out = []
    for item in items:
        pair = (item, 1.0) if isinstance(item, str | os.PathLike) else item
        if (
            not isinstance(pair, Sequence)
            or len(pair) != 2
            or not isinstance(pair[0], str | os.PathLike)
            or isinstance(pair[1], bool)
            or not isinstance(pair[1], Real)
            or not math.isfinite(pair[1])
        ):
            raise ValueError(f"{name} holds {item!r}; it is a path, or (path, scale)")
        out.append((os.fspath(pair[0]), float(pair[1])))
    return tuple(out)


def _mapping(name: str, value: Any, rule: Rule) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name} is {value!r}; it is a mapping of names to values")
    return dict(value)


_DTYPES: Final = {
    "float32": "float32",
    "fp32": "float32",
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "auto": "auto",
}
_RULES: Final = {**SAMPLING, **LOADING, "timeout": Rule("number", 0, above=True)}
_READERS: Final[Mapping[str, Callable[[str, Any, Rule], Any]]] = {
    "number": _number,
    "integer": _number,
    "text": _text,
    "texts": _texts,
    "switch": _switch,
    "adapters": _adapters,
    "mapping": _mapping,
}
