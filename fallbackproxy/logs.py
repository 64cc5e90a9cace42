"""Structured logs: one JSON object a line on stderr, written by a thread of its own.

A pipe that nobody reads must not stop the event loop: records wait in a bounded
queue, and what does not fit is dropped and counted.
"""

from __future__ import annotations

import atexit
import datetime
import json
import logging
import queue
import sys
import threading
from typing import IO, Any

from proxy.redaction import redact_keys

QUEUE_SIZE = 10_000
BATCH = 500
WIRE_LOGGERS = ("httpx", "httpcore")
"""They quote what providers send, at levels below WARNING: never written, whatever is set."""


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "event", ...}`: the fields of `extra={"fields": {...}}` follow."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
        }
        fields = getattr(record, "fields", None)
        if fields is not None:
            line["event"] = record.getMessage()
            line.update(fields)
        else:
            line["event"] = "log"
            line["logger"] = record.name
            line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redact_keys(json.dumps(line, ensure_ascii=False, default=str))


class DeliberateAborts(logging.Filter):
    """Drops uvicorn's complaint about a reply without an end: that is how a stream is aborted."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg != "ASGI callable returned without completing response."


class BackgroundStderr(logging.Handler):
    """Hands formatted lines to a thread that writes them to stderr."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_SIZE)
        self._dropped = 0
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
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def _start_thread(self) -> None:
        # At the first line, not at import: gunicorn forks in between.
        with self._start:
            if self._thread is None:
                thread = threading.Thread(target=self._write, name="log", daemon=True)
                thread.start()
                self._thread = thread
                atexit.register(self.drain)

    def drain(self) -> None:
        """Write what is waiting, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            try:
                self._lines.put(None, timeout=2)
            except queue.Full:
                return
            thread.join(timeout=2)

    def close(self) -> None:
        self.drain()
        super().close()

    def _write(self) -> None:
        while True:
            lines = [self._lines.get()]
            while len(lines) < BATCH and lines[-1] is not None:
                try:
                    lines.append(self._lines.get_nowait())
                except queue.Empty:
                    break
            dropped, self._dropped = self._dropped, 0
            text = "".join(f"{line}\n" for line in lines if line is not None)
            if dropped:
                text += (
                    json.dumps({"level": "warning", "event": "log.dropped", "lines": dropped})
                    + "\n"
                )
            stream = self._stream or sys.stderr
            try:
                stream.write(text)
                stream.flush()
            except (OSError, ValueError):
                pass
            if lines[-1] is None:
                return
