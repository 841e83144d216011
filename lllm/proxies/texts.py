"""Texts of a Proxy about its endpoints: catalogues, documentation, and searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lllm.proxies import catalogue
from lllm.proxies.base import BaseProxy
from lllm.proxies.endpoint import Endpoint

if TYPE_CHECKING:
    from lllm.search import Described, Index


class Texts:
    """The part of Proxy that only tells of what is active. Every address that it prints is callable as printed."""

    proxies: dict[str, BaseProxy]
    endpoints: dict[str, Endpoint]
    _index: tuple[int, Index[Endpoint]] | None = None

    if TYPE_CHECKING:  # of Proxy

        def matching(self, pattern: str) -> list[str]: ...

    def available(self) -> list[str]:
        """The paths of the active proxies."""
        return list(self.proxies)

    def api_directory(self, *, categories: str | Sequence[str] = (), max_tokens: int | None = None) -> str:
        """The active proxies with their categories and addresses, a line for each. Arguments and errors as of
        `api_catalog`."""
        return catalogue.directory(self.proxies.values(), categories=categories, max_tokens=max_tokens)

    def api_catalog(
        self,
        *,
        categories: str | Sequence[str] = (),
        search: str | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """The active proxies with their endpoints, what they take and a line on what they are for, as a text for prompts.

        Arguments:
            categories: those that are listed, as `issues` or `issues/comments`; all where none is named. search: what the
                endpoints should do; then the best 20 are listed, the best first. max_tokens: how long the text may be, at one
                token per 4 bytes. Where that is too short for all, endpoints are described in fewer words, then without
                their parameters, then only counted. No address is ever cut.

        Raises:
            UnknownNameError: no such category. ConfigError: a `max_tokens` in which nothing fits.
        """
        query = (search or "").strip()
        if not query:
            return catalogue.catalog(self.proxies.values(), categories=categories, max_tokens=max_tokens)
        found = self.search(query, catalogue.FOUND, categories=categories)
        if not found:
            return catalogue.unmatched(self.proxies.values(), query, categories, max_tokens)
        return catalogue.ranked(found, query, max_tokens)

    def search(self, query: str, limit: int = 5, *, categories: str | Sequence[str] = ()) -> list[Endpoint]:
        """The endpoints that do what a query asks for, the best first. See `lllm.search`.

        Raises:
            UnknownNameError: no such category.
        """
        from lllm.search import Index

        if self._index is None or self._index[0] != len(self.endpoints):
            self._index = len(self.endpoints), Index(list(self.endpoints.values()), _described)
        index = self._index[1]
        if not categories:
            return index.search(query, limit)
        wanted = catalogue.addresses(self.proxies.values(), categories)
        return [one for one in index.search(query, len(self.endpoints)) if one.address in wanted][:limit]

    def retrieve_api_docs(self, *names: str, max_tokens: int | None = None) -> str:
        """All that is known of some endpoints or proxies; of all where none is named. Where that is longer than
        `max_tokens`, less is said of those at the end.

        Raises:
            UnknownNameError: no such endpoint or proxy. ConfigError: a `max_tokens` in which nothing fits.
        """
        wanted = [one for name in names for one in self.matching(name)] if names else list(self.endpoints)
        chosen = [self.endpoints[address] for address in dict.fromkeys(wanted)]
        return catalogue.docs(chosen, self.proxies, max_tokens)

    def overview(self, max_tokens: int | None = None) -> str:
        """One line for each active proxy."""
        return catalogue.overview(self.proxies.values(), max_tokens)


def _described(endpoint: Endpoint) -> Described:
    """Returns the texts of an endpoint that are searched."""
    from lllm.search import Described

    takes = [endpoint.category, endpoint.sub_category, *(one.name for one in endpoint.parameters)]
    values = (one.schema.get("enum") or () for one in endpoint.parameters)
    takes += [value for each in values for value in each if isinstance(value, str)]
    told = (one.schema.get("description") for one in endpoint.parameters)
    details = " ".join(one[:200] for one in told if isinstance(one, str))
    return Described(endpoint.address, endpoint.description or endpoint.title, takes, details)
