"""Facts about a model file, read without loading the model: a GGUF file, or a folder of transformers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple

from lllm.errors import ConfigError, DependencyError

SUFFIXES: Final = (".gguf", ".safetensors")


class ModelFile(NamedTuple):
    """Facts that a file has about itself; None for those that it has not.

    Attributes:
        path: the file, or the folder.
        kind: gguf or transformers.
        backend: the backend that loads it.
        name: its own name.
        architecture: llama, qwen3, ...
        quantisation: how most of the weights are stored: Q8_0, F16, bfloat16, gptq, ...
        parameters: how many numbers the weights are.
        context: tokens that it was trained to read and write at once.
        layers: how many.
        template: whether a chat template is in it.
        licence: its licence.
        size: bytes of the weights.
        cache: bytes that one token takes in the key-value cache.
    """

    path: Path
    kind: str
    backend: str
    name: str | None
    architecture: str | None
    quantisation: str | None
    parameters: int | None
    context: int | None
    layers: int | None
    template: bool
    licence: str | None
    size: int
    cache: int | None

    def memory(self, context: int | None = None) -> int | None:
        """Bytes that the weights and the key-value cache of `context` tokens (the model's own by default) take. What the
        engine needs beside them (buffers, the program) is not in it."""
        tokens = context or self.context
        return None if self.cache is None or tokens is None else self.size + self.cache * tokens

    def record(self, context: int | None = None) -> dict[str, Any]:
        """As `--json` prints it."""
        return {**self._asdict(), "path": str(self.path), "memory": self.memory(context)}


def read(path: str | Path) -> ModelFile:
    """Reads a .gguf file, a folder of transformers, or a .safetensors file in such a folder. Imports no torch.

    Raises:
        ConfigError: there is no such file, or it is no model.
        DependencyError: a GGUF file, and `gguf` is not installed.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise ConfigError(f"no such file: {place}", hint="What there is: lllm models")
    if place.suffix == ".safetensors":
        place = place.parent
    if place.is_dir():
        if (place / "config.json").is_file():
            return _folder(place)
        inside = sorted(place.glob("*.gguf"))
        hint = f"Name the file: {inside[0]}" if inside else "Give a .gguf file, or a folder with config.json."
        raise ConfigError(f"{place} holds no config.json", hint=hint)
    return _gguf(place)


# --- GGUF


def _gguf(path: Path) -> ModelFile:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ConfigError(f"{path} is no GGUF file", hint="A GGUF file begins with the letters GGUF.")
    try:
        import gguf
    except ModuleNotFoundError as error:
        if error.name not in ("gguf", "numpy"):
            raise
        raise DependencyError("gguf", "local", "reading a GGUF file") from error
    try:
        readers = [gguf.GGUFReader(part) for part in _parts(path)]
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ConfigError(f"{path} is damaged: {error}", hint="Copy or download it again.") from error
    fields = readers[0].fields

    def value(key: str) -> Any:
        return fields[key].contents() if key in fields else None

    def number(key: str) -> Any:
        return value(f"{architecture}.{key}")

    architecture = value("general.architecture")
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    layers = number("block_count")
    return ModelFile(
        path=path,
        kind="gguf",
        backend="llama_cpp",
        name=value("general.name"),
        architecture=architecture,
        quantisation=_file_type(value("general.file_type"), tensors),
        parameters=sum(int(tensor.n_elements) for tensor in tensors) or None,
        context=number("context_length"),
        layers=layers,
        template="tokenizer.chat_template" in fields,
        licence=value("general.license"),
        size=sum(part.stat().st_size for part in _parts(path)),
        cache=_cache(
            layers,
            heads=number("attention.head_count"),
            pairs=number("attention.head_count_kv"),
            width=number("embedding_length"),
            key=number("attention.key_length"),
            value=number("attention.value_length"),
            bytes_each=2,  # llama.cpp keeps it in half precision
        ),
    )


def _parts(path: Path) -> list[Path]:
    """All files of a model that was cut into `name-00001-of-00003.gguf`, ..."""
    match = re.fullmatch(r"(.*-)\d{5}(-of-\d{5})\.gguf", path.name)
    if match is None:
        return [path]
    first, last = match.groups()
    return sorted(
        file for file in path.parent.glob("*.gguf") if file.name.startswith(first) and last in file.name
    )


def _file_type(given: int | None, tensors: list[Any]) -> str | None:
    import gguf

    try:
        return str(gguf.LlamaFileType(given).name).removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        counted: Counter[str] = Counter()
        for tensor in tensors:
            counted[tensor.tensor_type.name] += int(tensor.n_elements)
        return counted.most_common(1)[0][0] if counted else None


def _cache(
    layers: int | None,
    *,
    heads: Any,
    pairs: Any,
    width: int | None,
    key: int | None,
    value: int | None,
    bytes_each: int,
) -> int | None:
    """Bytes per token. `pairs` are the heads that keys and values have, one number or one per layer."""
    pairs = heads if pairs is None else pairs
    most = max(heads) if isinstance(heads, list) else heads
    if not layers or not pairs or not most or (width is None and key is None):
        return None
    each = key or (width or 0) // most
    both = each + (value or each)
    return both * bytes_each * (sum(pairs) if isinstance(pairs, list) else pairs * layers)


# --- a folder of transformers

_BYTES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
_NAMES: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def _folder(folder: Path) -> ModelFile:
    config = _json(folder / "config.json")
    text = {**config, **config["text_config"]} if isinstance(config.get("text_config"), dict) else config
    weights = sorted(folder.glob("*.safetensors"))
    counted: Counter[str] = Counter()
    for file in weights:
        for kind, numbers in _tensors(file):
            counted[kind] += numbers
    stored = counted.most_common(1)[0][0] if counted else None
    quantised = config.get("quantization_config") or {}
    named = str(config.get("dtype") or config.get("torch_dtype") or "") or None
    others = [file for file in folder.glob("*.bin") if not weights and file.name.startswith("pytorch_model")]
    return ModelFile(
        path=folder,
        kind="transformers",
        backend="transformers",
        name=config.get("_name_or_path") or folder.name,
        architecture=config.get("model_type"),
        quantisation=quantised.get("quant_method") or _NAMES.get(stored or "", stored) or named,
        parameters=None if quantised else sum(counted.values()) or None,  # quantised ones are packed
        context=text.get("max_position_embeddings"),
        layers=text.get("num_hidden_layers"),
        template=_has_template(folder),
        licence=_licence(folder),
        size=sum(file.stat().st_size for file in [*weights, *others]),
        cache=_cache(
            text.get("num_hidden_layers"),
            heads=text.get("num_attention_heads"),
            pairs=text.get("num_key_value_heads"),
            width=text.get("hidden_size"),
            key=text.get("head_dim"),
            value=None,
            bytes_each=_BYTES.get(stored or "", 2) if not quantised else 2,
        ),
    )


def _tensors(file: Path) -> Iterator[tuple[str, int]]:
    """Kind and count of each tensor's numbers, from the header alone."""
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            if size > file.stat().st_size:
                raise ValueError("its header does not fit into it")
            header = json.loads(opened.read(size))
        for name, tensor in header.items():
            if name != "__metadata__":
                yield tensor["dtype"], prod(tensor["shape"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{file} is no safetensors file: {error}", hint="Copy or download it again."
        ) from error


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    file = folder / "tokenizer_config.json"
    return file.is_file() and bool(_json(file).get("chat_template"))


def _licence(folder: Path) -> str | None:
    """The line `license:` at the head of README.md."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    line = re.search(r"^license:\s*(\S.*?)\s*$", head.group(1), re.MULTILINE) if head else None
    return line.group(1).strip("'\"") if line else None
