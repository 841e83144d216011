"""The official suite, through Format, with the table of the guide."""

import re
from pathlib import Path

import pytest

from lllm.errors import ConfigError
from lllm.tools.formats import Format
from tests.schemas import suite

GUIDE = Path(suite.__file__).parents[2] / "docs" / "guides" / "schemas.md"

REFUSED = {
    # They name a metaschema that is served by a web server, and nothing is fetched. The list only shrinks.
    "optional/format-assertion.json: schema that uses custom metaschema with format-assertion: false",
    "optional/format-assertion.json: schema that uses custom metaschema with format-assertion: true",
    "vocabulary.json: schema that uses custom metaschema with with no validation vocabulary",
    "vocabulary.json: ignore unrecognized optional vocabulary",
}


@pytest.mark.parametrize("draft", suite.DRAFTS)
def test_every_verdict_is_the_suites(draft: str) -> None:
    refused = set()
    for case, found in suite.verdicts(draft):
        if found.accepted is None:
            refused.add(f"{case.file}: {case.group}")
            continue
        assert found.accepted is suite.expected(case), case.name
        assert found.sent is not False or not case.valid, f"{case.name}: what is sent excludes a valid reply"
    assert refused == (REFUSED if draft == "draft2020-12" else set())


def test_the_guide_has_the_table() -> None:
    found = re.search(r"<!-- suite -->\n(.*)\n<!-- /suite -->", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == suite.table(), "python -m tests.schemas.suite"


@pytest.mark.parametrize("draft", suite.DRAFTS)
def test_documents_from_elsewhere_are_refused(draft: str) -> None:
    """The suite's schemas with remote references, as they are: nothing is fetched."""
    schemas = [case.schema for case in suite.cases(draft) if case.file == "refRemote.json"]
    assert len(schemas) > 20
    for schema in schemas:
        with pytest.raises(ConfigError, match=r"outside the schema|not a known draft"):
            Format.of({"$schema": suite.DRAFTS[draft], **schema})
