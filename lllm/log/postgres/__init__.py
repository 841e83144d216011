"""Session logs in a Postgres database: many writers on many machines, one writer per session."""

from __future__ import annotations

from lllm.log.postgres.store import PostgresLog

__all__ = ["PostgresLog"]
