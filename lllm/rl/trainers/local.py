"""Trainers of TRL that call nobody: no telemetry, no look at the model hub."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any


class Local:
    """The first base of a trainer of TRL."""

    def _send_telemetry(self) -> None:
        """TRL tells the hub which trainer is used whenever one is made. A training is nobody else's affair."""

    if not TYPE_CHECKING:

        def _save(self, *args: Any, **more: Any) -> None:
            with without_hub():
                super()._save(*args, **more)


@contextmanager
def without_hub() -> Iterator[None]:
    """Nothing is asked of the hub: `peft` would look there for the base model's config whenever it saves an adapter."""
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
    """Hides what libraries say to one another about names that will change: nothing that a user could do."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning
        )
        yield
