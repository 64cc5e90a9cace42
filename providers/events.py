"""The structured log: one event a line, with the request id of its call."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("ccf")


def emit(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log `event` with `fields`, plain values that nobody changes; None values are left out."""
    if logger.isEnabledFor(level):
        # Not `handle`: this logger has no filters.
        logger.callHandlers(EventRecord(level, event, fields))


_UNKNOWN = {
    **dict.fromkeys(logging.makeLogRecord({}).__dict__),
    "name": logger.name,
    "filename": "",
    "lineno": 0,
}
_LEVEL_NAMES = {number: name for name, number in logging.getLevelNamesMapping().items()}


class EventRecord(logging.LogRecord):
    """A record without what no event names: its line of code, thread, process and task.

    To find those out takes ten times as long as all the rest.
    """

    def __init__(self, level: int, event: str, fields: dict[str, object]) -> None:
        self.__dict__ = {
            **_UNKNOWN,
            "msg": event,
            "levelno": level,
            "levelname": _LEVEL_NAMES[level],
            "created": time.time(),
            "fields": fields,
        }
