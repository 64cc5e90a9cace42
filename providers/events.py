"""The structured log: one event a line, with the request id of its call."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("ccf")


def emit(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log `event` with `fields`; None values are left out."""
    if logger.isEnabledFor(level):
        kept = {name: value for name, value in fields.items() if value is not None}
        logger.handle(EventRecord(level, event, kept))


class EventRecord(logging.LogRecord):
    """A record without what no event names: its line of code, thread, process and task.

    To find those out takes ten times as long as all the rest.
    """

    args = exc_info = exc_text = stack_info = taskName = None
    thread = threadName = process = processName = None
    pathname = filename = module = funcName = ""
    lineno = 0
    relativeCreated = msecs = 0.0

    def __init__(self, level: int, event: str, fields: dict[str, object]) -> None:
        self.name = logger.name
        self.msg = event
        self.levelno = level
        self.levelname = logging.getLevelName(level)
        self.created = time.time()
        self.fields = fields
