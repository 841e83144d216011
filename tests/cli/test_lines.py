"""Lines on stderr from several sides: they do not mix."""

from __future__ import annotations

import threading

import pytest

from lllm.cli import output
from lllm.cli.lines import Lines


@pytest.fixture
def lines() -> Lines:
    output.begin(debug=False, json=False)
    made = Lines()
    output.beside(made.beside)
    return made


def test_a_line_stands_below_streamed_text(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    lines.stream("one ", reply=True)
    lines.stream("two", reply=True)
    assert lines.tail == "one two"
    output.warn("something else")
    assert lines.tail == ""
    lines.stream("three\n")
    lines.say("four")
    lines.finish()
    assert capsys.readouterr().err == "one two\nwarning: something else\nthree\nfour\n"


def test_nothing_stands_between_a_question_and_its_answer(
    lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    lines.stream("text")
    with lines.hold():
        output.write("? ", error=True, end="")
        threads = [
            threading.Thread(target=lines.say, args=("a tool",)),
            threading.Thread(target=output.say, args=("a warning",)),
            threading.Thread(target=lines.stream, args=("more",)),
        ]
        for thread in threads:
            thread.start()
            thread.join()
        assert capsys.readouterr().err == "text\n? "
    lines.finish()
    assert capsys.readouterr().err == "a tool\na warning\nmore\n"


def test_a_status_is_shown_where_it_can_be_taken_away_only(
    lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    lines.status("writes: 3 characters")
    lines.say("done")
    assert capsys.readouterr().err == "done\n"
