"""The structured log: lines reach stderr in order and redacted, and hold nobody up."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from fallbackproxy import logs
from fallbackproxy.logs import BackgroundStderr
from providers.events import EventRecord

KEY = "sk-ant-api03-0123456789abcdefghij"


class Pipe(io.StringIO):
    """A stream that takes nothing before `taking` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.taking = threading.Event()
        self.asked = threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        assert self.taking.wait(10)
        return super().write(text)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.fixture
def handler(pipe: Pipe) -> Iterator[BackgroundStderr]:
    handler = BackgroundStderr(pipe)
    yield handler
    pipe.taking.set()
    handler.close()


def event(name: str, **fields: object) -> EventRecord:
    return EventRecord(logging.INFO, name, fields)


def test_events_and_other_records_keep_their_order(handler: BackgroundStderr, pipe: Pipe) -> None:
    pipe.taking.set()
    for number in range(100):
        handler.handle(event("request.start", number=number))
        handler.handle(logging.LogRecord("x", logging.WARNING, "", 0, "%d", (number,), None))
    handler.drain()
    lines = pipe.lines()
    assert [line["number"] for line in lines[::2]] == list(range(100))
    assert [line["message"] for line in lines[1::2]] == [str(number) for number in range(100)]


def test_a_key_in_one_of_many_lines_is_redacted_and_no_other_line_changes(
    handler: BackgroundStderr, pipe: Pipe
) -> None:
    pipe.taking.set()
    for number in range(50):
        handler.handle(event("request.start", path=f"/v1/{KEY if number == 25 else 'messages'}"))
    handler.drain()
    paths = [line["path"] for line in pipe.lines()]
    assert paths == ["/v1/messages"] * 25 + ["/v1/sk ***"] + ["/v1/messages"] * 24


def test_what_an_argument_says_later_is_not_logged(handler: BackgroundStderr, pipe: Pipe) -> None:
    state = ["early"]
    handler.handle(logging.LogRecord("x", logging.WARNING, "", 0, "%s", (state,), None))
    state[0] = "late"
    pipe.taking.set()
    handler.drain()
    assert pipe.lines()[0]["message"] == "['early']"


def test_a_pipe_that_nobody_reads_costs_lines_and_says_how_many(
    handler: BackgroundStderr, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "QUEUE_SIZE", 10)
    handler.handle(event("first"))
    assert pipe.asked.wait(10)
    for number in range(25):
        handler.handle(event("request.start", number=number))
    pipe.taking.set()
    handler.drain()
    lines = pipe.lines()
    assert [line["number"] for line in lines if "number" in line] == list(range(10))
    assert [line["lines"] for line in lines if line["event"] == "log.dropped"] == [15]


def test_a_write_that_fails_costs_its_own_lines_only() -> None:
    class Full(Pipe):
        failures = 1

        def write(self, text: str) -> int:
            if self.failures:
                self.failures -= 1
                raise OSError("no space left")
            return super().write(text)

    full = Full()
    full.taking.set()
    handler = BackgroundStderr(full)
    number = logs.AT_ONCE + 5
    for position in range(number):
        handler._waiting.append(event("request.start", number=position))
    handler.handle(event("request.start", number=number))
    handler.drain()
    lines = full.lines()
    assert [line["number"] for line in lines if "number" in line] == list(
        range(logs.AT_ONCE, number + 1)
    )
    assert [line["lines"] for line in lines if line["event"] == "log.dropped"] == [logs.AT_ONCE]
    handler.close()


def test_an_event_that_cannot_be_formatted_costs_its_own_line_only(
    handler: BackgroundStderr, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    pipe.taking.set()
    for value in ("before", Broken(), "after"):
        handler.handle(event("request.start", path=value))
    handler.drain()
    assert [line["path"] for line in pipe.lines()] == ["before", "after"]
