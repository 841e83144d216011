"""Requests of imported operations, judged on the server's side by another implementation of OpenAPI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from lllm.proxies import Proxy
from lllm.proxies.endpoint import Endpoint
from lllm.proxies.openapi.layout import modules
from lllm.proxies.openapi.module import write_module
from tests.proxies.openapi.documents import examples, github
from tests.proxies.openapi.imports import loaded, read
from tests.proxies.openapi.judge import Judge, judging
from tests.proxies.openapi.samples import resolve, sample

DOCUMENTS = (
    # 3.0
    "3.0/json/petstore.json",
    "3.0/json/parameters-common.json",
    "3.0/json/complex-nesting.json",
    "3.0/json/uspto.json",
    "3.0/json/form-data.json",
    "3.0/json/server-variables.json",
    "3.0/json/security.json",
    "3.0/json/polymorphism.json",
    # 3.1
    "3.1/json/petstore.json",
    "3.1/json/readme.json",
    "3.1/json/readme-extensions.json",
    "3.1/json/security.json",
)
STEP = 5
"""Every so manieth operation of these tags of GitHub's is tried: all of them take half a minute."""
TAGS = ("actions", "gists", "git", "issues", "pulls", "search", "users", "projects")


def arguments_of(endpoint: Endpoint, whole: bool) -> dict[str, Any]:
    """Arguments that fit: the required ones, or all."""
    found = {}
    for one in endpoint.parameters:
        if one.required or whole:
            found[one.name] = sample(resolve(one.schema, endpoint.shared), whole)
    return found


async def judged(document: dict[str, Any], step: int = 1, tags: Sequence[str] = ()) -> Judge:
    """Imports a document and calls its operations with few and with all arguments."""
    imported = read(document, name="judged", server="http://127.0.0.1:1", tags=tags)
    variables = [name for one in imported.credentials for name in one.variables]
    tried = 0
    async with judging(document) as judge:
        for module in modules(imported, single=True):
            with loaded(write_module(imported, module)) as proxy:
                runtime = Proxy([proxy], variables=dict.fromkeys(variables, "key-of-a-test"))
                made = runtime.proxies[proxy.path()]
                made.base_url = judge.base_url
                for operation in module.operations[::step]:
                    endpoint = made.endpoints()[operation.key]
                    made.headers = {"X-Operation": operation.at}
                    for whole in (False, True):
                        arguments = arguments_of(endpoint, whole)
                        if endpoint.checker.validate(arguments):
                            continue  # a schema that `sample` has no value for
                        found = await runtime.acall(endpoint.address, arguments)
                        if operation.paginate is None and operation.method != "HEAD":
                            assert found == judge.last, operation.at
                        tried += 1
    assert tried >= len(imported.operations) / step
    return judge


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_examples(name: str) -> None:
    document = json.loads(examples()[name])
    judge = await judged(document)
    assert judge.problems == []


async def test_github() -> None:
    judge = await judged(github(), STEP, TAGS)
    assert judge.problems == []
    assert judge.answered > judge.served / 2
