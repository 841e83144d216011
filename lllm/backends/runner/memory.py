"""How much memory a model and this process take."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def resident() -> tuple[int | None, str]:
    """Bytes of this process in memory, and who said so: psutil, /proc, or getrusage (its peak). None where nobody
    knows."""
    try:
        import psutil

        return int(psutil.Process().memory_info().rss), "psutil"
    except ImportError:
        pass
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), "/proc"
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return None, "unknown"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024), "getrusage (peak)"


def weights(path: str | None) -> int | None:
    """Bytes of a model's files, or None where there is no such path."""
    if path is None:
        return None
    place = Path(path).expanduser()
    if place.is_file():
        return place.stat().st_size
    if place.is_dir():
        files = [f for f in place.iterdir() if f.suffix in (".safetensors", ".bin", ".gguf", ".pt", ".pth")]
        return sum(file.stat().st_size for file in files)
    return None


def on_device(device: str) -> int | None:
    """Bytes that torch holds on a GPU, where it is loaded and the device is one."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith(("cuda", "mps")):
        return None
    if device.startswith("cuda"):
        return int(torch.cuda.memory_allocated(device))
    return int(torch.mps.current_allocated_memory())


def usage(info: Mapping[str, Any], path: str | None, device: str) -> dict[str, Any]:
    """`parameters`, `weight_bytes`, `process_bytes` and who measured it, `device`, `device_bytes`. A value that is not
    known is None; no key is ever left out."""
    process, source = resident()
    bytes_ = info.get("weight_bytes") or info.get("bytes") or weights(path)
    return {
        "parameters": info.get("parameters"),
        "weight_bytes": bytes_,
        "process_bytes": process,
        "measured_by": source,
        "device": device,
        "device_bytes": on_device(device),
    }
