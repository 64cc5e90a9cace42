"""The structured log: one event a line, with the request id of its call."""

from __future__ import annotations

import logging

logger = logging.getLogger("ccf")


def emit(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log `event` with `fields`; None values are left out."""
    if logger.isEnabledFor(level):
        # Not by logger.log: that looks for the caller's line, which no event names.
        record = logging.LogRecord(logger.name, level, "", 0, event, None, None)
        record.fields = {name: value for name, value in fields.items() if value is not None}
        logger.handle(record)
