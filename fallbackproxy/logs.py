"""Structured logs: one JSON object a line on stderr, written by a thread of its own.

A pipe that nobody reads must not stop the event loop: records wait in a bounded
queue, and what does not fit is dropped and counted. The thread formats and writes
what has gathered in a moment at once: to wake it for every line would cost more
than the line, and a call has no use for the time that formatting takes.
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

from providers.events import EventRecord
from proxy.pacing import paced
from proxy.redaction import redact_keys

QUEUE_SIZE = 10_000
GATHER_SECONDS = 0.02
AT_ONCE = 32
"""Lines between two rests of the thread."""
WIRE_LOGGERS = ("httpx", "httpcore")
"""They quote what providers send, at levels below WARNING: never written, whatever is set."""


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "event", ...}`: the fields of `extra={"fields": {...}}` follow."""

    def __init__(self) -> None:
        super().__init__()
        self._last_moment = 0, ""  # one value, because several threads share it

    def format(self, record: logging.LogRecord) -> str:
        return redact_keys(self.unredacted(record))

    def unredacted(self, record: logging.LogRecord) -> str:
        """As `format`, for those who redact many lines at once."""
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
        return _dumps(line)

    def _moment(self, created: float) -> str:
        """ISO 8601 in UTC, with milliseconds."""
        millisecond = int(created * 1000)
        last, text = self._last_moment
        if millisecond != last:
            second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millisecond // 1000))
            text = f"{second}.{millisecond % 1000:03d}Z"
            self._last_moment = millisecond, text
        return text


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
    """Hands records to a thread that writes them to stderr, a line each."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        super().__init__()
        self._stream = stream
        self._json = JsonFormatter()
        self.setFormatter(self._json)
        self._waiting: deque[str | EventRecord] = deque()
        self._dropped = 0
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()

    def handle(self, record: logging.LogRecord) -> bool:
        """As the base class, without its lock: a deque needs none."""
        if isinstance(record, EventRecord):
            self._put(record)
        else:
            self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Formats at once: what the arguments of a record say may be another thing later."""
        if record.levelno < logging.WARNING and record.name.startswith(WIRE_LOGGERS):
            return
        try:
            self._put(self.format(record))
        except Exception:
            self.handleError(record)

    def _put(self, line: str | EventRecord) -> None:
        if self._thread is None:
            self._start_thread()
        if len(self._waiting) >= QUEUE_SIZE:
            self._dropped += 1
            return
        self._waiting.append(line)
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
            stream = self._stream or sys.stderr
            for _ in paced(range(0, len(self._waiting), AT_ONCE), at_once=1):
                self._write_text(stream, self._portion())
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                line = {"level": "warning", "event": "log.dropped", "lines": dropped}
                self._write_text(stream, _dumps(line) + "\n")
            if last:
                return

    def _write_text(self, stream: IO[str], text: str) -> None:
        """What cannot be written is counted; the next portion may fare better."""
        try:
            stream.write(text)
            stream.flush()
        except (OSError, ValueError):
            self._dropped += text.count("\n")

    def _portion(self) -> str:
        """The next few of the waiting lines. They are redacted together: most have no need."""
        count = min(AT_ONCE, len(self._waiting))
        lines = [self._text(self._waiting.popleft()) for _ in range(count)]
        return redact_keys("".join(lines))

    def _text(self, waiting: str | EventRecord) -> str:
        if isinstance(waiting, str):
            return f"{waiting}\n"
        try:
            return f"{self._json.unredacted(waiting)}\n"
        except Exception:
            self.handleError(waiting)
            return ""
