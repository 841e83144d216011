"""Proxies that ship: files, sql, git, fetch, search and knowledge.

Each is a subclass of BaseProxy like anybody's, registered by its dotted path and imported when it is activated. Their options
are keyword arguments of the constructor: `Proxy(["files"], options={"files": {"root": "docs"}})`.
"""
