"""Trainers of TRL without telemetry and without requests to the model hub."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any


class Local:
    """The first base of a trainer of TRL."""

    def _send_telemetry(self) -> None:
        """Does nothing. TRL would report to the hub which trainer is used."""

    if not TYPE_CHECKING:

        def _save(self, *args: Any, **more: Any) -> None:
            with without_hub():
                super()._save(*args, **more)


@contextmanager
def without_hub() -> Iterator[None]:
    """Blocks requests to the hub within the block: `peft` would fetch the base model's config whenever it saves an adapter."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Could not find a config file in")
            yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Hides warnings of libraries about deprecated names, about which a user can do nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning
        )
        yield
