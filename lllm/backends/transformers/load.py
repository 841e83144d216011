"""From a folder or a GGUF file to a model that is ready to generate."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple

from lllm.backends.devices import checked, resolve
from lllm.backends.transformers.device import DTYPES, dtype_of
from lllm.errors import (
    ConfigError,
    DependencyError,
    LLMError,
    LLMInitializationError,
    UnknownKeyError,
    nearest,
    text_of,
)

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
# Tokens that end a turn. Published models often name only one of theirs as end of text, and chat on after the other.
_TURN_ENDS: Final = ("<|im_end|>", "<|eot_id|>", "<|end_of_turn|>", "<end_of_turn>", "<|end|>")


class LoadOptions(NamedTuple):
    """How a model is loaded. Nothing of it is about a single request.

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
        for name in ("compile", "trust_remote_code"):
            if not isinstance(getattr(self, name), bool):
                found.append(ConfigError(f"{name} is {getattr(self, name)!r}; it is true or false"))
        for name in ("revision", "lora", "chat_template"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                found.append(ConfigError(f"{name} is {value!r}; it is a text"))
        if self.threads is not None and (
            isinstance(self.threads, bool) or not isinstance(self.threads, int) or self.threads < 1
        ):
            found.append(ConfigError(f"threads is {self.threads!r}; it is a whole number, 1 or more"))
        if not isinstance(self.model_args, Mapping):
            return [*found, ConfigError(f"model_args is {self.model_args!r}; it is a mapping")]
        for key in self.model_args:
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


@dataclass
class Loaded:
    """A model and its tokenizer.

    Attributes:
        model: the torch module, in evaluation mode, on `device`.
        tokenizer: transformers' tokenizer, with end of text, padding and chat template set.
        device: where the model is, and `why` it is there.
        dtype: the name of the weights' dtype.
        context: tokens of one request, prompt and reply together.
        eos: the tokens that end a reply.
        name: the last component of the path.
        seconds: how long loading took.
        options: what it was loaded with.
    """

    model: Any
    tokenizer: Any
    device: str
    why: str
    dtype: str
    context: int
    eos: frozenset[int]
    name: str
    seconds: float
    options: LoadOptions = field(default_factory=LoadOptions)
    compiled: str = "off"
    """off, on, or `failed: REASON`."""

    def compile(self) -> bool:
        """Compiles the model in place and runs it once. Says whether that worked: where it did not, the model works on as it
        was, and `compiled` has the reason."""
        import torch

        self.decompile()
        try:
            self.model.forward = torch.compile(self.model.forward, dynamic=True)
            self._once()
        except Exception as error:
            self.decompile()
            self.compiled = f"failed: {text_of(error).strip().splitlines()[0]}"
            return False
        self.compiled = "on"
        return True

    def decompile(self) -> None:
        """Takes `compile` back."""
        self.model.__dict__.pop("forward", None)  # the class's own shows again
        self.compiled = "off"

    def _once(self) -> None:
        import torch

        with torch.inference_mode():
            self.model(torch.tensor([sorted(self.eos)[:1] or [0]], device=self.device))

    def info(self) -> dict[str, Any]:
        """What the model is: architecture, parameters, weight_bytes, dtype, device, device_reason, context, quantization,
        compile, attention, lora, load_seconds, and the versions of torch and transformers."""
        return {
            "name": self.name,
            "architecture": type(self.model).__name__,
            "parameters": _parameters(self.model),
            "weight_bytes": _weight_bytes(self.model),
            "dtype": self.dtype,
            "device": self.device,
            "device_reason": self.why,
            "context": self.context,
            "quantization": self.options.quantization or "none",
            "compile": self.compiled,
            "attention": getattr(self.model.config, "_attn_implementation", None),
            "lora": Path(self.options.lora).name if self.options.lora else None,
            "load_seconds": round(self.seconds, 3),
            "torch": _version("torch"),
            "transformers": _version("transformers"),
        }


def load(path: str, options: LoadOptions = LoadOptions()) -> Loaded:  # noqa: B008  (an immutable value)
    """Loads a model. Takes its time: call it in a worker thread.

    Args:
        path: a folder with `config.json`, a `.gguf` file (the weights are unpacked to `dtype`), or the name of a model in the
            hub's cache. `~` is allowed. Nothing is downloaded.
        options: see LoadOptions.

    Raises:
        ConfigError: options that make no sense, before torch is imported.
        DependencyError: torch, transformers, or what an option needs, is not installed.
        LLMInitializationError: no such model, broken files, no such device, not enough memory.
    """
    options.check()
    _needed()
    started = time.monotonic()
    source = _Source.find(path, options)
    if options.lora is not None:
        _package("peft", "a LoRA adapter (option lora)")
    device, why = resolve(options.device)
    if options.quantization is not None:
        _quantizable(options.quantization, device, source)
    try:
        with _quiet():
            loaded = _load(source, options, device, why)
    except LLMError:
        raise
    except Exception as error:
        raise _failure(error, source, device) from error
    if options.compile:
        loaded.compile()
    loaded.seconds = time.monotonic() - started
    return loaded


class _Source(NamedTuple):
    """Where the files are: what from_pretrained is given, and the GGUF file's name where there is one."""

    place: str
    name: str
    gguf: str | None = None

    @classmethod
    def find(cls, path: str, options: LoadOptions) -> _Source:
        given = Path(path).expanduser()
        shown = (
            path if not given.is_absolute() else given.name
        )  # messages reach the log: no folders of this machine
        if given.is_file():
            if given.suffix.lower() != ".gguf":
                raise LLMInitializationError(
                    f"'{shown}' is a file; transformers loads a folder with config.json, or a .gguf file",
                    hint="Give the folder that holds it.",
                )
            _package("gguf", "a GGUF file on transformers", extra="transformers")
            return cls(str(given.parent), given.name, given.name)
        if given.is_dir():
            if not (given / "config.json").is_file():
                files = sorted(child.name for child in given.glob("*.gguf"))
                raise LLMInitializationError(
                    f"the folder '{shown}' holds no model: config.json is missing",
                    hint=f"Give one of its files: {shown}/{files[0]}"
                    if files
                    else "Give the folder that holds it.",
                )
            return cls(str(given), given.resolve().name)
        if given.suffix.lower() != ".gguf" and _hub_name(path):
            return cls(_cached(path, options), path.rpartition("/")[2])
        raise LLMInitializationError(
            f"there is no model '{shown}'" + ("" if given.is_absolute() else " in the current folder"),
            hint="Give the path of a folder with config.json, or of a .gguf file.",
        )


def _hub_name(path: str) -> bool:
    """Whether a text may be a model's name on the hub: OWNER/NAME, or NAME."""
    parts = path.split("/")
    return len(parts) <= 2 and all(
        part and part[0] not in ".~" and part.replace("-", "").replace("_", "").replace(".", "").isalnum()
        for part in parts
    )


def _cached(name: str, options: LoadOptions) -> str:
    """The folder of a model in the hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(name, revision=options.revision, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError, OSError) as error:
        raise LLMInitializationError(
            f"'{name}' is no folder and no file here, and no model of that name is in the local cache",
            hint=f"Type: lllm models pull {name}",
        ) from error


def _load(source: _Source, options: LoadOptions, device: str, why: str) -> Loaded:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    common: dict[str, Any] = {"local_files_only": True, "trust_remote_code": options.trust_remote_code}
    if source.gguf is not None:
        common["gguf_file"] = source.gguf
    config = AutoConfig.from_pretrained(source.place, **common)
    declared = None if source.gguf is not None else getattr(config.get_text_config(), "dtype", None)
    dtype = dtype_of(options.dtype, device, config=str(declared).removeprefix("torch.") if declared else None)
    if options.quantization == "int8":
        dtype = "float32"  # torch quantises from full precision
    arguments: dict[str, Any] = {**options.model_args, **common, "dtype": getattr(torch, dtype)}
    if options.attn is not None:
        arguments["attn_implementation"] = options.attn
    if options.quantization in ("8bit", "4bit"):
        from transformers import BitsAndBytesConfig

        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=options.quantization == "8bit", load_in_4bit=options.quantization == "4bit"
        )
        arguments["device_map"] = {"": device}
    elif device != "cpu" and source.gguf is None:
        arguments["device_map"] = {"": device}  # straight to the device: never twice in memory
    tokenizer = AutoTokenizer.from_pretrained(source.place, **common)
    model = AutoModelForCausalLM.from_pretrained(source.place, **arguments)
    if "device_map" not in arguments:
        model = model.to(device)
    if options.lora is not None:
        model.load_adapter(str(Path(options.lora).expanduser()))
    model = model.eval().requires_grad_(False)
    eos = _ends(model, tokenizer, source, options)
    if options.quantization == "int8":
        _int8(model)
    text = model.config.get_text_config()
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        device=device,
        why=why,
        dtype=dtype,
        context=int(getattr(text, "max_position_embeddings", None) or 4096),
        eos=eos,
        name=source.name,
        seconds=0.0,
        options=options,
    )


def _ends(model: Any, tokenizer: Any, source: _Source, options: LoadOptions) -> frozenset[int]:
    """The tokens that end a reply; sets end of text, padding and the chat template of the tokenizer where it has none."""
    ends: set[int] = set()
    if source.gguf is not None:
        ends |= _from_gguf(tokenizer, Path(source.place) / source.gguf)
    if options.chat_template is not None:
        tokenizer.chat_template = options.chat_template
    for holder in (getattr(model, "generation_config", None), model.config, tokenizer):
        value = getattr(holder, "eos_token_id", None)
        ends |= set(value) if isinstance(value, (list, tuple)) else {value} if value is not None else set()
    template = json.dumps(tokenizer.chat_template or "", ensure_ascii=False)
    known = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    ends |= {known[text] for text in _TURN_ENDS if text in known and text in template}
    ends = {int(number) for number in ends if 0 <= int(number) < model.config.get_text_config().vocab_size}
    if not ends:
        raise LLMInitializationError(
            f"{source.name} names no token that ends a text, so a reply would never end",
            hint="Set eos_token_id in generation_config.json.",
        )
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(min(ends))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return frozenset(ends)


def _from_gguf(tokenizer: Any, path: Path) -> set[int]:
    """What transformers leaves behind in a GGUF file: special tokens, chat template, the other ends of a turn."""
    import gguf

    fields = gguf.GGUFReader(path).fields

    def value(key: str) -> Any:
        return fields[key].contents() if key in fields else None

    for name, key in (("eos_token", "eos"), ("pad_token", "padding"), ("bos_token", "bos")):
        number = value(f"tokenizer.ggml.{key}_token_id")
        if number is not None and getattr(tokenizer, name) is None:
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(int(number)))
    if tokenizer.chat_template is None:
        tokenizer.chat_template = value("tokenizer.chat_template")
    numbers = (value(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom"))
    return {int(number) for number in numbers if number is not None}


def _int8(model: Any) -> None:
    """Dynamic int8 in place: the weights of every linear layer but the output's, whose errors land on the tokens."""
    import warnings

    import torch

    head = model.get_output_embeddings()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces its successor, a package of its own
        names = {
            name for name, part in model.named_modules() if type(part) is torch.nn.Linear and part is not head
        }
        spec = dict.fromkeys(names, torch.ao.quantization.default_dynamic_qconfig)
        torch.ao.quantization.quantize_dynamic(model, spec, inplace=True)


def _quantizable(kind: str, device: str, source: _Source) -> None:
    if kind == "int8":
        if device != "cpu":
            raise LLMInitializationError(
                f"quantization 'int8' is torch's own and runs on the CPU; the device is {device}",
                hint="Give quantization='8bit' (the package bitsandbytes), or device='cpu'.",
            )
        return
    _package("bitsandbytes", f"quantization '{kind}'")
    if source.gguf is not None:
        raise LLMInitializationError(
            f"{source.name} is a GGUF file, which transformers unpacks: quantization '{kind}' wants a folder",
            hint="Use the llama_cpp backend, which computes with the file's own quantisation.",
        )


def _needed() -> None:
    for package in ("torch", "transformers"):
        _package(package, "the transformers backend", extra="transformers")


def _package(name: str, purpose: str, *, extra: str | None = None) -> None:
    """Raises DependencyError when a package cannot be found."""
    from importlib.util import find_spec

    if find_spec(name) is None:
        error = DependencyError(name, extra or "", purpose)
        if extra is None:  # no extra of ours brings it
            error.hint = f"Type: pip install {name}"
        raise error


def _failure(error: Exception, source: _Source, device: str) -> LLMInitializationError:
    told = text_of(error).strip().splitlines()[0]
    for folder in {source.place, str(Path(source.place).resolve())}:
        told = told.replace(f"{folder}/", "").replace(folder, source.name)
    words = text_of(error).lower()
    hint = None
    if isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words:
        told = f"out of memory: {told}"
        hint = "Give dtype='bfloat16' or 'float16', a quantization, or a smaller model."
    elif isinstance(error, ImportError):
        hint = "Install what the message names, or leave the option out."
    return LLMInitializationError(
        f"transformers could not load {source.name} on {device}: {told}"
        f" (torch {_version('torch')}, transformers {_version('transformers')})",
        hint=hint,
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _parameters(model: Any) -> int:
    """Numbers that the model has learnt, those of packed layers too."""
    count = sum(int(part.numel()) for part in model.parameters())
    return count + sum(
        int(weight.numel()) + (0 if bias is None else int(bias.numel())) for weight, bias in _packed(model)
    )


def _weight_bytes(model: Any) -> int:
    count = sum(int(part.numel()) * int(part.element_size()) for part in model.parameters())
    return count + sum(
        int(weight.numel()) * int(weight.element_size())
        + (0 if bias is None else int(bias.numel()) * int(bias.element_size()))
        for weight, bias in _packed(model)
    )


def _packed(model: Any) -> Iterator[tuple[Any, Any]]:
    for part in model.modules():
        if hasattr(part, "_packed_params") and callable(getattr(part, "weight", None)):
            yield part.weight(), part.bias()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the library's progress bars out of the terminal. One load at a time: the switches are the library's own."""
    from transformers import modeling_gguf_pytorch_utils as reader
    from transformers.utils import logging

    with _loading:
        shown, bar = logging.is_progress_bar_enabled(), reader.tqdm
        logging.disable_progress_bar()
        reader.tqdm = _plain  # the reader of GGUF files asks nobody
        try:
            yield
        finally:
            reader.tqdm = bar
            if shown:
                logging.enable_progress_bar()


def _plain(items: Any, **_: Any) -> Any:
    return items


_loading = threading.Lock()
