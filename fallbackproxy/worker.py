"""Gunicorn's worker and logger, fitted to this proxy."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from typing import Any

import gunicorn.glogging
from django.conf import settings
from uvicorn_worker import UvicornWorker

from fallbackproxy.logs import JsonFormatter

# Seconds between the end of the last call and the kill: the application's shutdown.
LIFESPAN_MARGIN = 10

# How long the thread that writes the history may keep all of Python from a call that has just
# come in, in seconds. With Python's own 5 ms it was every hundredth call's delay.
SWITCH_SECONDS = 0.0005

# After so many the garbage collector looks for cycles among them.
NEW_OBJECTS = 10_000


class Logger(gunicorn.glogging.Logger):  # type: ignore[misc]
    """Gunicorn's own lines as JSON, written at once: a queue's thread does not survive a fork."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        # Said at every stop: uvicorn has closed the worker's listening socket already.
        if not msg.startswith("Error while closing socket"):
            super().info(msg, *args, **kwargs)


class Worker(UvicornWorker):  # type: ignore[misc]
    """A uvicorn worker that adds nothing to a relayed answer and leaves in good order."""

    CONFIG_KWARGS: dict[str, Any] = {
        "loop": "auto",
        "http": "auto",
        "ws": "none",
        # Under "auto" an application whose start has failed would serve all the same.
        "lifespan": "on",
        # The application says itself which of its parts believe X-Forwarded-*.
        "proxy_headers": False,
        # Upstream answers have their own.
        "server_header": False,
        "date_header": False,
        "access_log": False,
        "log_config": None,
        # Without a limit uvicorn waits for the calls until gunicorn kills it.
        "timeout_graceful_shutdown": settings.GRACEFUL_TIMEOUT,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The base class puts gunicorn's list of handlers there: the very same list, which
        # Django's logging configuration would then empty.
        for name in ("uvicorn.error", "uvicorn.access"):
            logger = logging.getLogger(name)
            logger.handlers = []
            # Uvicorn puts a line together for every request if anybody could write it.
            logger.propagate = name != "uvicorn.access"

    def run(self) -> None:
        # What is there now stays: the collector need not look through it again and again.
        gc.collect()
        gc.freeze()
        # By default it comes by at every 700 new objects, which are those of a dozen calls, and
        # finds nothing: calls leave no cycles behind, but for some that have failed.
        gc.set_threshold(NEW_OBJECTS)
        sys.setswitchinterval(SWITCH_SECONDS)
        super().run()

    def init_signals(self) -> None:
        super().init_signals()
        # Uvicorn raises the signal that stopped it once more at the end. By default that
        # kills, and log lines that wait to be written are lost.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: sys.exit(0))
