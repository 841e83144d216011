"""The shapes, by what their order comes from."""

from benchmarks.order.shapes import effects, groups, parts, queues, streamed, tasks, threads, timers

__all__ = ["effects", "groups", "parts", "queues", "streamed", "tasks", "threads", "timers"]
