"""Structured logs: one JSON object a line on stderr, written by a thread of its own.

A pipe that nobody reads must not stop the event loop: lines wait in a bounded
queue, and what does not fit is dropped and counted. The thread writes what has
gathered in a moment at once: to wake it for every line would cost more than the
line.
"""

from __future__ import annotations

import atexit
import json
import logging
import sys
import threading
import time
from collections import deque
from typing import IO, Any

import orjson

from proxy.redaction import redact_keys

QUEUE_SIZE = 10_000
GATHER_SECONDS = 0.02
WIRE_LOGGERS = ("httpx", "httpcore")
"""They quote what providers send, at levels below WARNING: never written, whatever is set."""


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "event", ...}`: the fields of `extra={"fields": {...}}` follow."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._until_second = ""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self._moment(record.created),
            "level": record.levelname.lower(),
        }
        fields = getattr(record, "fields", None)
        if fields is not None:
            line["event"] = record.getMessage()
            line |= {name: value for name, value in fields.items() if value is not None}
        else:
            line["event"] = "log"
            line["logger"] = record.name
            line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redact_keys(_dumps(line))

    def _moment(self, created: float) -> str:
        """ISO 8601 in UTC, with milliseconds."""
        second = int(created)
        if second != self._second:
            self._until_second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._until_second}.{int((created - second) * 1000):03d}Z"


def _dumps(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except TypeError:  # a lone surrogate
        return json.dumps(line, default=str)


class DeliberateAborts(logging.Filter):
    """Drops uvicorn's complaint about a reply without an end: that is how a stream is aborted."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg != "ASGI callable returned without completing response."


class BackgroundStderr(logging.Handler):
    """Hands formatted lines to a thread that writes them to stderr."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        super().__init__()
        self._stream = stream
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and record.name.startswith(WIRE_LOGGERS):
            return
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if self._thread is None:
            self._start_thread()
        if len(self._lines) >= QUEUE_SIZE:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._news.is_set():
            self._news.set()

    def _start_thread(self) -> None:
        # At the first line, not at import: gunicorn forks in between.
        with self._start:
            if self._thread is None:
                self._closing.clear()
                thread = threading.Thread(target=self._write, name="log", daemon=True)
                thread.start()
                self._thread = thread
                atexit.register(self.drain)

    def drain(self) -> None:
        """Write what is waiting, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._closing.set()
            self._news.set()
            thread.join(timeout=2)

    def close(self) -> None:
        self.drain()
        super().close()

    def _write(self) -> None:
        while True:
            self._news.wait()
            last = self._closing.wait(GATHER_SECONDS)
            # Cleared first: a line that comes while these are taken wakes the thread once more.
            self._news.clear()
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(_dumps({"level": "warning", "event": "log.dropped", "lines": dropped}))
            stream = self._stream or sys.stderr
            try:
                stream.write("".join(f"{line}\n" for line in lines))
                stream.flush()
            except (OSError, ValueError):
                pass
            if last:
                return
