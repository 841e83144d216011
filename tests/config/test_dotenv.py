"""`.env` files: read as python-dotenv reads them, and never a reason to stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lllm.cli import main
from lllm.config import load_config, read_config
from lllm.config.dotenv import decoded, read_lines
from lllm.config.environ import Environ

Write = Callable[[str, str], Path]

REAL = {"REAL": "r", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "variables"),
    [  # each as python-dotenv 1.2 gives it
        ("a=b", {"a": "b"}),
        ("a = b ", {"a": "b"}),
        ("  export a=b", {"a": "b"}),
        ("export 'a'=b", {"a": "b"}),
        ("a=", {"a": ""}),
        ("a=b # comment", {"a": "b"}),
        ("a=b#c", {"a": "b#c"}),
        ("a=#b", {"a": "#b"}),
        ("a= # b", {"a": ""}),
        ("a='b' # c\nd=e", {"a": "b", "d": "e"}),
        ("# a=b\n\n \n\tc=d\r\ne=f\rg=h", {"c": "d", "e": "f", "g": "h"}),
        ('a="b\nc"\nd=e', {"a": "b\nc", "d": "e"}),
        ("a='b\r\nc'", {"a": "b\r\nc"}),
        (
            'KEY="-----BEGIN RSA PRIVATE KEY-----\nMIIE==\n-----END"\nd=e',
            {"KEY": "-----BEGIN RSA PRIVATE KEY-----\nMIIE==\n-----END", "d": "e"},
        ),
        (r'a="\a\b\f\n\r\t\v\"\'\\ \x"', {"a": "\a\b\f\n\r\t\v\"'\\ \\x"}),
        (r"a='\n \' \\'", {"a": r"\n ' " + "\\"}),
        ('a="{\\"b\\": 1}"', {"a": '{"b": 1}'}),
        ("lone\na=b\nexport other\nexport", {"a": "b"}),
        ("a.b-c=1\n1x=2\né=3\n'd e'=4", {"a.b-c": "1", "1x": "2", "é": "3", "d e": "4"}),
        ("a=1\na=2", {"a": "2"}),
        ("a=b=c d", {"a": "b=c d"}),
        ("a=1\nb=${a}${REAL}${NOT}${NOT:-d}${EMPTY:-e}", {"a": "1", "b": "1rd"}),
        ("REAL=mine\nb='${REAL}'", {"REAL": "mine", "b": "r"}),
        ("b=$REAL ${a", {"b": "$REAL ${a"}),
        ("", {}),
    ],
)
def test_it_is_read_as_python_dotenv_reads_it(text: str, variables: dict[str, str]) -> None:
    lines = list(read_lines(text, REAL))
    assert [line.problem for line in lines if line.problem] == []
    assert {line.name: line.value for line in lines} == variables


@pytest.mark.parametrize(
    ("text", "problems", "variables"),
    [
        ("a=b\n\none line\nc=d", [(3, "not a line of the form NAME=value")], {"a": "b", "c": "d"}),
        ("a='b\nc=d", [(1, "a quote is not closed")], {"c": "d"}),
        ('a=b\nc="d\ne=f', [(2, "a quote is not closed")], {"a": "b", "e": "f"}),
        ("a='b'c\nd=e", [(1, "not a line of the form NAME=value")], {"d": "e"}),
        ('k="1\n2\n3"\n=x\ny=z', [(4, "not a line of the form NAME=value")], {"k": "1\n2\n3", "y": "z"}),
    ],
)
def test_what_cannot_be_read_is_left_out_and_named(
    text: str, problems: list[tuple[int, str]], variables: dict[str, str]
) -> None:
    lines = list(read_lines(text, REAL))
    assert [(line.number, line.problem) for line in lines if line.problem] == problems
    assert {line.name: line.value for line in lines if not line.problem} == variables


def test_references_do_not_fill_the_memory() -> None:
    """Each line is four times as long as the one before."""
    text = "A0=ten letters\n" + "".join(f"A{n}={f'${{A{n - 1}}}' * 4}\n" for n in range(1, 40)) + "OK=${A0}\n"
    lines = list(read_lines(text, {}))
    assert lines[-1][1:3] == ("OK", "ten letters")
    assert lines[9].value == "ten letters" * 4**9
    assert "references add more than" in str(lines[10].problem)
    assert sum(len(line.value) for line in lines) < 12_000_000


def test_many_lines_that_cannot_be_read_are_few_warnings(nobodys_machine: Path) -> None:
    file = nobodys_machine / ".env"
    file.write_text("one two\n" * 1000 + "A=b\n")
    environ = Environ({}, file)
    assert environ["A"] == "b"
    warnings = [str(problem) for problem in environ.problems]
    assert warnings[4:] == [
        "warning: .env:5: not a line of the form NAME=value",
        "warning: .env: 995 more lines cannot be read",
    ]


@pytest.mark.parametrize(
    ("data", "text", "guessed"),
    [
        (b"a=\xc3\xa9", "a=é", False),
        (b"\xef\xbb\xbfa=b", "a=b", False),
        ("a=é".encode("utf-16"), "a=é", False),
        (b"a=\xe9", "a=é", True),
    ],
)
def test_encodings(data: bytes, text: str, guessed: bool) -> None:
    assert decoded(data) == (text, guessed)


def test_it_stops_no_command(write: Write, nobodys_machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("lllm.toml", "")
    (nobodys_machine / ".env").write_bytes(
        b"NAME=caf\xe9\nno line of it sk-secret-1234\nOPEN='never\nMY.OWN=1\n"
    )
    config, problems = read_config({"settings": {"name": "${NAME}"}})
    assert config is not None
    assert config.settings == {"name": "café"}
    assert [str(problem) for problem in problems] == [
        "warning: .env: is not UTF-8 and was read as Latin-1\n  Save it as UTF-8.",
        "warning: .env:2: not a line of the form NAME=value",
        "warning: .env:3: a quote is not closed",
    ]
    for command in (["check"], ["list", "agents"], ["schema"], ["sessions"]):
        assert main(command) == 0, command
        said = capsys.readouterr()
        assert "error" not in said.err
        assert "sk-secret" not in said.out + said.err


def test_a_folder_of_that_name_is_nobodys_file(write: Write, nobodys_machine: Path) -> None:
    (nobodys_machine / ".env").mkdir()
    config, problems = read_config({})
    assert config is not None
    assert problems == []


def test_a_file_that_cannot_be_read_is_a_warning(
    write: Write, nobodys_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = nobodys_machine / ".env"
    file.write_text("A=b")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    environ = Environ({}, file)
    assert [str(problem) for problem in environ.problems] == [
        "warning: .env: cannot be read: Permission denied"
    ]
    assert "A" not in environ


def test_its_secrets_are_known_like_those_of_the_environment(write: Write) -> None:
    from lllm.config.environ import environment

    write(
        ".env",
        "DB_PASS=hunter2hunter2\nDATABASE_URL=postgres://me:s3cretword@host/db\nSTAGE=production-like\n",
    )
    config = load_config({})
    assert {"hunter2hunter2", "s3cretword", "postgres://me:s3cretword@host/db"} <= config.secrets()
    text = environment().text("hunter2hunter2 s3cretword production-like")
    assert text == "[redacted:DB_PASS] [redacted:DATABASE_URL] production-like"
