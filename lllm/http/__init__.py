"""HTTP for everything that talks to a server: model backends, and the APIs behind proxies.

Read in this order: `url` (base URLs), `forward_proxy` (the way there), `sessions` (pooled connections, per event loop), `pool`
and `reused` (connections that serve several requests), `direct` (requests of any method to any server), `limiter` (concurrency,
requests and tokens per minute), `watch` and `time_limit` (time limits), `sse` (event streams), `network_errors` and
`retry_after` (what goes wrong), `secret_text` (keys).

Only `pool` and `reused` import aiohttp at the top: the others import it on first use.
"""
