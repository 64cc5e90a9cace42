"""Gunicorn's configuration. Where and how many: see `manage.py serve`."""

import os
import sys
from pathlib import Path
from typing import Any

# The working directory may be another one.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fallbackproxy.settings")

from django.conf import settings

from fallbackproxy import counts
from fallbackproxy.worker import LIFESPAN_MARGIN

bind = "127.0.0.1:8787"
workers = settings.WORKERS
worker_class = "fallbackproxy.worker.Worker"
logger_class = "fallbackproxy.worker.Logger"
loglevel = settings.LOG_LEVEL.lower()

# The calls get GRACEFUL_TIMEOUT to end, and the application some time after that to write down
# what it knows. Then gunicorn kills.
graceful_timeout = settings.GRACEFUL_TIMEOUT + LIFESPAN_MARGIN
# Longer than the pauses of a client between two calls, so that its connection is there still.
keepalive = 75
# Its path would be shared by all instances of a user.
control_socket_disable = True
# The heartbeat of a worker must not wait for a disk.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108

# Each worker counts for itself; /metrics tells the sum.
counts.prepare(worker_tmp_dir)


def pre_fork(server: object, worker: object) -> None:
    counts.restore()


def child_exit(server: object, worker: Any) -> None:
    counts.forget_worker(worker.pid)


def on_exit(server: object) -> None:
    counts.clear_away()
