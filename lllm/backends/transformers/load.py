"""From a folder or a GGUF file to a model that is ready to generate."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lllm.backends.devices import resolve
from lllm.backends.local.memory import exhausted
from lllm.backends.local.packages import needed, version_of
from lllm.backends.transformers.device import dtype_of
from lllm.backends.transformers.gguf_limits import check_gguf
from lllm.backends.transformers.gguf_tokenizer import set_space_prefix
from lllm.backends.transformers.loaded import Loaded as Loaded
from lllm.backends.transformers.options import LoadOptions as LoadOptions
from lllm.backends.transformers.source import Source
from lllm.backends.transformers.weights_report import check_weights, unused_weights, without_report
from lllm.core.visible import visible_line
from lllm.errors import LLMError, LLMInitializationError, OutOfMemory, listing, text_of

# Tokens that end a turn. Published models often name only one of theirs as end of text, and chat on after the other.
_TURN_ENDS: Final = ("<|im_end|>", "<|eot_id|>", "<|end_of_turn|>", "<end_of_turn>", "<|end|>")

_TOKENIZERS: Final = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)
"""Files that a tokenizer's vocabulary may be in."""


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
    source = Source.find(path, options)
    if options.lora is not None:
        needed("peft", "a LoRA adapter (option lora)")
    device, why = resolve(options.device)
    if options.quantization is not None:
        _quantizable(options.quantization, device, source)
    try:
        with _quiet(), without_report():
            loaded = _load(source, options, device, why)
    except LLMError:
        raise
    except Exception as error:
        raise _failure(error, source, device) from error
    if options.compile:
        loaded.compile()
    loaded.seconds = time.monotonic() - started
    return loaded


def _load(source: Source, options: LoadOptions, device: str, why: str) -> Loaded:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    common: dict[str, Any] = {"local_files_only": True, "trust_remote_code": options.trust_remote_code}
    if source.gguf is not None:
        check_gguf(Path(source.place) / source.gguf, source.name)
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
    tokenizer = _tokenizer(AutoTokenizer, source, common)
    # mismatches are errors of ours, unless the user lets them pass
    reported = {"output_loading_info": True, "ignore_mismatched_sizes": True, **arguments}
    model, report = AutoModelForCausalLM.from_pretrained(source.place, **reported)
    if "ignore_mismatched_sizes" not in arguments:
        check_weights(report, source.name)
    if "device_map" not in arguments:
        model = model.to(device)
    if options.lora is not None:
        model.load_adapter(str(Path(options.lora).expanduser()))
    model = model.eval().requires_grad_(False)
    ends: set[int] = set()
    if source.gguf is not None:
        ends |= _from_gguf(tokenizer, Path(source.place) / source.gguf)
    if options.chat_template is not None:
        tokenizer.chat_template = options.chat_template
    eos = ends_of(model, tokenizer, source.name, ends)
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
        unused=unused_weights(report),
    )


def _tokenizer(kind: Any, source: Source, arguments: Mapping[str, Any]) -> Any:
    try:
        return kind.from_pretrained(source.place, **arguments)
    except Exception as error:  # whatever its files have in them
        folder = Path(source.place)
        if (
            source.gguf is None
            and folder.is_dir()
            and not any((folder / one).is_file() for one in _TOKENIZERS)
        ):
            raise LLMInitializationError(
                f"{source.name} has no tokenizer: none of {listing(_TOKENIZERS)}",
                hint="Write it beside the weights: tokenizer.save_pretrained(FOLDER).",
            ) from error
        told = (text_of(error).strip() or type(error).__name__).splitlines()[0]
        raise LLMInitializationError(
            f"the tokenizer of {source.name} cannot be read ({type(error).__name__}): {visible_line(told)}",
            hint="Copy its files again. From tokenizer.model alone it is read with the package sentencepiece.",
        ) from error


def ends_of(model: Any, tokenizer: Any, name: str, known_ends: Iterable[int] = ()) -> frozenset[int]:
    """The tokens that end a reply; sets end of text and padding of the tokenizer where it has none.

    Args:
        name: what messages call the model. known_ends: those that its file names.
    """
    ends = set(known_ends)
    for holder in (getattr(model, "generation_config", None), model.config, tokenizer):
        value = getattr(holder, "eos_token_id", None)
        ends |= set(value) if isinstance(value, (list, tuple)) else {value} if value is not None else set()
    template = str(tokenizer.chat_template or "")
    known = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    ends |= {known[text] for text in _TURN_ENDS if text in known and text in template}
    ends = {int(number) for number in ends if 0 <= int(number) < model.config.get_text_config().vocab_size}
    if not ends:
        raise LLMInitializationError(
            f"{name} names no token that ends a text, so a reply would never end",
            hint="Set eos_token_id in generation_config.json.",
        )
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(min(ends))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return frozenset(ends)


def _from_gguf(tokenizer: Any, path: Path) -> set[int]:
    """Sets what transformers does not read from a GGUF file: special tokens, chat template, further end-of-turn tokens.

    The file takes precedence: some releases give the tokenizer the special tokens of another model of the same
    architecture.
    """
    import gguf

    fields = gguf.GGUFReader(path).fields
    set_space_prefix(tokenizer, fields)

    def value(key: str) -> Any:
        return fields[key].contents() if key in fields else None

    for name, key in (("eos_token", "eos"), ("pad_token", "padding"), ("bos_token", "bos")):
        number = value(f"tokenizer.ggml.{key}_token_id")
        if number is not None:
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


def _quantizable(kind: str, device: str, source: Source) -> None:
    if kind == "int8":
        if device != "cpu":
            raise LLMInitializationError(
                f"quantization 'int8' is torch's own and runs on the CPU; the device is {device}",
                hint="Give quantization='8bit' (the package bitsandbytes), or device='cpu'.",
            )
        return
    needed("bitsandbytes", f"quantization '{kind}'")
    if source.gguf is not None:
        raise LLMInitializationError(
            f"{source.name} is a GGUF file, which transformers unpacks: quantization '{kind}' wants a folder",
            hint="Use the llama_cpp backend, which computes with the file's own quantisation.",
        )


def _needed() -> None:
    for package in ("torch", "transformers"):
        needed(package, "the transformers backend", extra="transformers")


def _failure(error: Exception, source: Source, device: str) -> LLMInitializationError:
    told = (text_of(error).strip() or type(error).__name__).splitlines()[0]
    for folder in {source.place, str(Path(source.place).resolve())}:
        told = told.replace(f"{folder}/", "").replace(folder, source.name)
    if isinstance(error, KeyError):
        told = f"something has no {told}"
    hint = None
    kind = LLMInitializationError
    if exhausted(error):
        kind = OutOfMemory
        told = f"out of memory: {told}"
        hint = "Give dtype='bfloat16' or 'float16', a quantization, or a smaller model."
    elif isinstance(error, ImportError):
        hint = "Install what the message names, or leave the option out."
    return kind(
        f"transformers could not load {source.name} on {device}: {told}"
        f" (torch {version_of('torch')}, transformers {version_of('transformers')})",
        hint=hint,
    )


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
