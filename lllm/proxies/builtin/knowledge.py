"""knowledge: search a folder of documents, and read the passages that were found, with citations."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from importlib import import_module
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Final

from lllm.errors import ConfigError, EndpointError, EndpointNotFound, EndpointRejected, LLMError, ToolError
from lllm.handles import embed_of
from lllm.plug_ins import guarded
from lllm.proxies.base import BaseProxy
from lllm.proxies.builtin import passages as index
from lllm.proxies.builtin import search_text
from lllm.proxies.builtin.documents import KINDS, Unreadable, ending, passages, text_of_document
from lllm.proxies.builtin.folder import Folder, Found, Opened
from lllm.proxies.builtin.options import FLAG, NUMBER, SECONDS, TEXT, TEXTS, Configured
from lllm.proxies.builtin.passages import Document, Passages
from lllm.proxies.endpoint import Endpoint
from lllm.sync import in_thread

_CITE: Final = re.compile(r"(.{1,4096}?)(?::(\d{1,9})(?:-(\d{1,9}))?)?", re.DOTALL)
_RECENT: Final = 2 * 10**9
"""Nanoseconds: a file that changed so shortly before it was read may have changed again within the same tick of its clock."""
_REFRESHING: Final = Lock()
"""One refresh at a time in this process: the second one has nothing left to do. Not an attribute: proxies can be pickled."""
_NAMES: Final = 200_000
"""Names below the folder that are looked at."""
_PASSAGES: Final = 50_000
"""Passages of one document: a file of ten megabytes has seven thousand, unless every line of it is a heading."""
_LINES: Final = 400
_LONGEST: Final = 40_000
"""Characters of one result."""
_BATCH: Final = 32
_SHOWN: Final = 2000


class Knowledge(Configured):
    """Documents of one folder, as a knowledge base.

    Attributes:
        root: the folder. include: names or paths that count, as in `["*.md", "docs/**/*.txt"]`; by default all that can be
            read. hidden: whether names that begin with a dot exist.
        index: the file of the index; by default one in `.lllm/knowledge` of the project. It can be deleted at any time.
        embeddings: a model with embeddings, by which passages are found by their meaning too: its name as in `lllm.LLM`, or an
            object with `embed(model, texts)`.
        max_files, max_bytes: how many documents are read, and how large one may be. seconds: how long one call may read
            documents that are new; what is left is read by the next ones.
    """

    _proxy_path = "knowledge"
    _proxy_name = "Knowledge"
    _proxy_description = (
        "Searches a folder of documents, and reads the passages that were found, with citations."
    )
    OPTIONS: ClassVar = {
        "root": TEXT,
        "include": TEXTS,
        "hidden": FLAG,
        "index": TEXT,
        "embeddings": TEXT,
        "max_files": NUMBER,
        "seconds": SECONDS,
    }

    root: str = ""
    include: Sequence[str] = ()
    hidden: bool = False
    index: str = ""
    embeddings: Any = ""
    max_files: int = 20_000
    max_bytes: int = 10 * 2**20
    seconds: float = 20.0
    timeout = 120.0

    def __init__(self, cutoff_date: Any = None, use_cache: bool = True, **options: Any) -> None:
        for key in ("root", "index"):
            if isinstance(options.get(key), Path):
                options[key] = str(options[key])
        embedder = options.get("embeddings", self.embeddings)
        if not isinstance(embedder, str):
            options["embeddings"] = ""
        super().__init__(cutoff_date, use_cache, **options)
        path = self.path()
        if not self.root:
            raise ConfigError(
                f"the proxy '{path}' needs the option 'root', the folder of its documents",
                hint=f'Write Proxy(["{path}"], options={{"{path}": {{"root": "docs"}}}}).',
            )
        if not isinstance(embedder, str) and embed_of(embedder) is None:
            raise ConfigError(
                f"option 'embeddings' of the proxy '{path}' must be the name of a model, or have embed(model, texts), "
                f"got {type(embedder).__name__}"
            )
        self.embeddings = embedder
        for glob in self.include:
            search_text.check_glob(glob)
        self._folder = Folder(self.root, hidden=self.hidden)
        self._index = Passages(self._place(), self._folder.root)

    def _place(self) -> Path:
        if self.index:
            return Path(self.index).expanduser().absolute()
        from lllm.config.project import find_project

        project = find_project()
        home = project.parent if project is not None else Path.cwd()
        made = sha256(f"{self._folder.root}\n{self.include}\n{self.hidden}".encode()).hexdigest()[:12]
        return home / ".lllm" / "knowledge" / f"{made}.db"

    def endpoints(self) -> dict[str, Endpoint]:
        """Its endpoints; the example of a citation is that of a document."""
        if self._endpoints is None:
            found = dict(super().endpoints())
            with suppress(EndpointError):
                names = islice(self._folder.walk(".", hidden=self.hidden), 1000)
                path = next(
                    (one.path for one in names if one.kind == "file" and self._counts(one.path)), "README.md"
                )
                cite = found["read"].parameters[0]
                given = replace(cite, schema={**cite.schema, "examples": [f"{path}:1-20"]})
                found["read"] = replace(found["read"], parameters=(given, *found["read"].parameters[1:]))
            self._endpoints = found
        return self._endpoints

    @BaseProxy.endpoint(
        category="read",
        effect="pure",
        params={
            "query": {"example": "how to install"},
            "under": {"description": "only this folder or document"},
            "limit": {"minimum": 1, "maximum": 50},
        },
    )
    async def search(self, query: str, under: str = "", limit: int = 8) -> dict[str, Any]:
        """Finds passages in the documents. Each has a `cite`, to read it and to quote it by.

        Args:
            query: words, and "exact phrases" in quotation marks.
            limit: how many passages at most.
        """
        index.match_of(query)
        within = "/".join(self._folder.parts(under))
        notes = await in_thread(self._refresh)
        vector, model = None, ""
        if self.embeddings:
            vector, model, more = await self._vector_of(query)
            notes += more
        found = await in_thread(self._found, query, within, limit, vector, model)
        if not found["passages"]:
            found["note"] = "no document has any of these words"
        return {**found, **({"notes": notes} if notes else {})}

    @BaseProxy.endpoint(
        category="read",
        effect="pure",
        params={"cite": {"example": "README.md:1-20"}, "around": {"minimum": 0, "maximum": 100}},
    )
    def read(self, cite: str, around: int = 0) -> dict[str, Any]:
        """Reads a passage by its `cite`, as the document is now.

        Args:
            cite: as search gives it: "guide.md:10-25"; or "guide.md" for its beginning.
            around: how many lines more before and after.
        """
        matched = _CITE.fullmatch(cite)
        if matched is None:
            raise EndpointRejected(f"{cite[:200]!r} is not a citation, as guide.md:10-25")
        path = "/".join(self._folder.parts(matched[1]))
        if not self._counts(path):
            raise EndpointRejected(f"'{path[:200]}' is not a document of this knowledge base")
        with self._folder.file(path) as file:
            try:
                lines = text_of_document(self._data(file), path)
            except Unreadable as error:
                raise EndpointRejected(f"'{path}' cannot be read: {error}") from None
        first = int(matched[2] or 1)
        last = int(matched[3] or (first if matched[2] else _LINES))
        if not 1 <= first <= max(1, len(lines)) or last < first:
            raise EndpointNotFound(f"'{path}' has {len(lines)} lines, and not {first}-{last}")
        first, last = max(1, first - around), min(len(lines), last + around, first + _LINES - 1)
        text = "\n".join(lines[first - 1 : last])
        made: dict[str, Any] = {
            "cite": f"{path}:{first}-{last}",
            "text": text[:_LONGEST],
            "total_lines": len(lines),
        }
        if len(text) > _LONGEST:
            made["note"] = f"{len(text) - _LONGEST} more characters were left out"
        return made

    @BaseProxy.endpoint(
        category="read",
        effect="pure",
        params={"under": {"description": "only this folder"}, "limit": {"minimum": 1, "maximum": 1000}},
    )
    def sources(self, under: str = "", limit: int = 200) -> dict[str, Any]:
        """Lists the documents, and those that are left out with the reason.

        Args:
            limit: how many at most.
        """
        within = "/".join(self._folder.parts(under))
        notes = self._refresh()
        with self._index.opened() as connection:
            every = index.known(connection).values()
        chosen = [
            one for one in every if not within or one.path == within or one.path.startswith(f"{within}/")
        ]
        good = [{"path": one.path, "lines": one.lines} for one in chosen if not one.problem]
        bad = [{"path": one.path, "problem": one.problem} for one in chosen if one.problem]
        made: dict[str, Any] = {"documents": good[:limit]}
        made |= {"left_out": bad[:50]} if bad else {}
        more = max(len(good) - limit, 0) + max(len(bad) - 50, 0)
        return {**made, **({"more": more} if more else {}), **({"notes": notes} if notes else {})}

    # --- the index

    def _refresh(self) -> list[str]:
        """Reads what is new or has changed, and forgets what is gone. Returns remarks."""
        with _REFRESHING:
            return self._refreshed()

    def _refreshed(self) -> list[str]:
        found, more = self._documents()
        until = time.monotonic() + self.seconds
        left = 0
        with self._index.opened() as connection:
            before = index.known(connection)
            for one in found:
                old = before.pop(one.path, None)
                if old is not None and _unchanged(old, one):
                    continue
                if left or time.monotonic() > until:
                    left += 1
                    continue
                document, made = self._read(one, old)
                if document is not None:
                    index.put(connection, document, made)
            if before:
                index.remove(connection, before)
        notes = [f"{left} documents are not read yet: search again for those"] if left else []
        return notes + (
            [f"the folder is too large: only the first {len(found)} documents are read"] if more else []
        )

    def _documents(self) -> tuple[list[Found], bool]:
        """The documents of the folder, and whether there are more than may be read."""
        found: list[Found] = []
        for number, one in enumerate(self._folder.walk(".", hidden=self.hidden)):
            if number >= _NAMES:
                return found, True
            if one.kind != "file" or not self._counts(one.path):
                continue
            if len(found) >= self.max_files:
                return found, True
            found.append(one)
        return found, False

    def _counts(self, path: str) -> bool:
        """True if a path may be that of a document."""
        if ending(path) not in KINDS:
            return False
        return not self.include or any(search_text.fits(path, glob) for glob in self.include)

    def _read(self, one: Found, old: Document | None) -> tuple[Document | None, list[Any] | None]:
        """A document as it is now, and its passages; None for those where they are the same as before."""
        read, problem, digest = index.now(), "", ""
        lines: list[str] = []
        made: list[Any] = []
        try:
            with self._folder.file(one.path) as file:
                changed, size = file.info.st_ctime_ns, file.size
                data = self._data(file)
            digest = sha256(data).hexdigest()
            if old is not None and old.hash == digest and not old.problem:
                return Document(one.path, changed, size, read, digest, old.lines, ""), None
            lines = text_of_document(data, one.path)
            made = list(islice(passages(lines, one.path), _PASSAGES + 1))
            if len(made) > _PASSAGES:
                raise Unreadable(f"it has more than {_PASSAGES:,} sections")
        except Unreadable as error:
            problem, lines, made = str(error), [], []
            changed, size = one.info.st_ctime_ns, one.info.st_size
        except EndpointNotFound:
            return None, None  # gone meanwhile
        except EndpointError as error:
            problem = error.message
            changed, size = one.info.st_ctime_ns, one.info.st_size
        return (
            Document(one.path, changed, size, read, digest, len(lines), problem),
            made,
        )

    def _data(self, file: Opened) -> bytes:
        if file.size > self.max_bytes:
            raise Unreadable(f"it has {file.size:,} bytes, and at most {self.max_bytes:,} are read")
        return file.at(0, self.max_bytes)

    def _found(self, query: str, under: str, limit: int, vector: Any, model: str) -> dict[str, Any]:
        with self._index.opened() as connection:
            rankings = [index.by_words(connection, query, under)]
            if vector is not None:
                rankings.append(index.by_meaning(connection, model, vector, under))
            ids = index.fused(*rankings) if len(rankings) > 1 else rankings[0]
            return {
                "passages": [
                    {
                        "cite": f"{one.path}:{one.first}-{one.last}",
                        **({"heading": one.heading} if one.heading else {}),
                        "text": one.snippet[:_SHOWN],
                    }
                    for one in index.hits(connection, ids, query, limit)
                ]
            }

    # --- meaning

    async def _vector_of(self, query: str) -> tuple[Any, str, list[str]]:
        """The vector of a query, after those of new passages; None with a remark where there is none."""
        name = self.embeddings if isinstance(self.embeddings, str) else type(self.embeddings).__name__
        try:
            notes = await self._embed_new(name)
            (vector,) = await self._embedded(name, [query[:_SHOWN]])
            await in_thread(self._sized, name, vector)
            return vector, name, notes
        except LLMError as error:
            return None, "", [f"passages were found by their words alone: {error.message[:500]}"]

    async def _embedded(self, name: str, texts: list[str]) -> list[Any]:
        """Vectors of length 1. ToolError where the model fails."""
        with guarded(f"embeddings of {name}", ToolError):
            backend, model = self.embeddings, ""
            if isinstance(backend, str):
                # by name: this floor does not know how models are opened
                backend, _, model = import_module("lllm.llm.connect").connect(backend)
            embed = embed_of(backend, model)
            if embed is None:
                raise ConfigError(f"{name} has no embeddings")
            vectors = [index.unit([float(one) for one in vector]) for vector in await embed(model, texts)]
            if len(vectors) != len(texts):
                raise ValueError(f"{len(vectors)} vectors for {len(texts)} texts")
            return vectors

    async def _embed_new(self, name: str) -> list[str]:
        until = time.monotonic() + self.seconds
        while new := await in_thread(self._without, name):
            for at in range(0, len(new), _BATCH):
                if time.monotonic() > until:
                    return ["not all passages have a vector yet: search again for the others"]
                batch = new[at : at + _BATCH]
                vectors = await self._embedded(name, [text for _, text in batch])
                pairs = [(digest, one) for (digest, _), one in zip(batch, vectors, strict=True)]
                await in_thread(self._keep, name, pairs)
        return []

    def _without(self, name: str) -> list[tuple[bytes, str]]:
        with self._index.opened() as connection:
            return index.without_vector(connection, name, 32 * _BATCH)

    def _keep(self, name: str, pairs: list[tuple[bytes, Any]]) -> None:
        with self._index.opened() as connection:
            index.keep_vectors(connection, name, pairs)

    def _sized(self, name: str, vector: Any) -> None:
        with self._index.opened() as connection:
            index.forget_others(connection, name, len(vector) * vector.itemsize)


def _unchanged(old: Document, one: Found) -> bool:
    """True if a document need not be read again. A problem may have passed without a change of the file: a package that is
    installed now."""
    same = (old.changed, old.size) == (one.info.st_ctime_ns, one.info.st_size)
    return same and old.read - old.changed > _RECENT and "pip install" not in old.problem
